{
  const sheet = new CSSStyleSheet();
  sheet.replaceSync("#$case { background: url(https://www.facebook.com/tr?case=$case) }");
  document.adoptedStyleSheets.push(sheet);
}
