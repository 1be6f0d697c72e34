import("https://static.hotjar.com/c/hotjar-7.js?case=$case").catch(() => 0);
