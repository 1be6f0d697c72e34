{
  const element = document.createElement("script");
  document.head.append(element);
  element.setAttribute("SRC", "https://www.googletagmanager.com/gtag/js?case=$case");
}
