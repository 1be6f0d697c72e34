setTimeout(() => {
  const parts = ["https:", "", ["www", "googletagmanager", "com"].join("."), "gtag", "js?case=$case"];
  document.head.appendChild(document.createElement("script")).src = parts.join("/");
}, 200);
