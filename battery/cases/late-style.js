document.getElementById("$case").style.backgroundImage = "url(https://www.facebook.com/tr?case=$case)";
