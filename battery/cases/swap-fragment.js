fetch("/own/$case.part.html", { headers: { "HX-Request": "true" } }).then(answer => answer.text()).then(html => {
  const target = document.getElementById("$case");
  target.innerHTML = html;
  for (const old of target.querySelectorAll("script")) {
    const fresh = document.createElement("script");
    for (const { name, value } of old.attributes) fresh.setAttribute(name, value);
    fresh.text = old.text;
    old.replaceWith(fresh);
  }
});
