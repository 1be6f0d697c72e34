const element = document.createElement("script");
element.src = "https://www.googletagmanager.com/gtag/js?case=$case";
document.head.append(element);
