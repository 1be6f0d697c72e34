document.body.append(document.getElementById("$case").content.cloneNode(true));
