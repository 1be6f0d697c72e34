document.createElement("div").innerHTML = '<img src="https://www.facebook.com/tr?case=$case" alt="">';
