document.getElementById("$case").innerHTML = '<p>Rooster</p><img src="https://www.facebook.com/tr?case=$case" alt="">';
