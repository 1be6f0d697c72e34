// "Meer nieuws" and the counters: each fetches a piece of HTML and puts it in its place, as htmx does.
(() => {
  "use strict";
  const piece = async (url) => {
    const response = await fetch(url, { headers: { "HX-Request": "true" } });
    return response.ok ? response.text() : "";
  };

  document.addEventListener("click", async (event) => {
    const link = event.target.closest("a[data-meer]");
    if (!link) return;
    event.preventDefault();
    const list = document.querySelector(link.dataset.meer);
    list.insertAdjacentHTML("beforeend", await piece(link.href));
    link.parentElement.remove();
  });

  for (const counts of document.querySelectorAll("[data-vers]")) {
    let last = "";
    setInterval(async () => {
      const html = await piece(counts.dataset.vers).catch(() => "");
      if (html && html !== last && !counts.contains(document.activeElement)) {
        const open = counts.querySelector("details")?.open;
        counts.innerHTML = last = html;
        if (open) counts.querySelector("details").open = true;
      }
    }, 1500);
  }
})();
