new Image().src = "https://www.facebook.com/tr?case=$case";
