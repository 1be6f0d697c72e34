new Image().srcset = "https://www.facebook.com/tr?case=$case 1x";
