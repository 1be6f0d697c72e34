document.getElementById("$case").insertAdjacentHTML("beforeend", '<iframe src="https://www.youtube.com/embed/x?case=$case"></iframe>');
