// Stands in for gtag.js: keeps the same cookies and sends as many hits, to this machine.
(function () {
  "use strict";
  var origin = new URL(document.currentScript.src).origin;
  var layer = (window.dataLayer = window.dataLayer || []);
  function keep(name, value) {
    document.cookie = name + "=" + value + "; path=/; max-age=63072000; SameSite=Lax";
  }
  function obey(command) {
    if (command[0] !== "config") return;
    var id = String(command[1]), now = Math.floor(Date.now() / 1000);
    if (!/(^|; )_ga=/.test(document.cookie)) keep("_ga", "GA1.1." + Math.floor(Math.random() * 1e9) + "." + now);
    keep("_ga_" + id.replace("G-", ""), "GS2.1.s" + now + "$o1$g1$t" + now);
    navigator.sendBeacon(origin + "/g/collect?v=2&en=page_view&tid=" + id + "&dl=" + encodeURIComponent(location.href));
  }
  layer.forEach(obey);
  layer.push = function (command) { obey(command); return Array.prototype.push.call(layer, command); };
})();
