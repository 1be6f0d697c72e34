// Stands in for fbevents.js: keeps the same cookie and sends an image for each event, to this machine.
(function () {
  "use strict";
  var origin = new URL(document.currentScript.src).origin, id = "";
  function obey(command) {
    if (command[0] === "init") {
      id = command[1];
      document.cookie = "_fbp=fb.0." + Date.now() + ".482913; path=/; max-age=7776000; SameSite=Lax";
    } else if (command[0] === "track") {
      new Image().src = origin + "/tr?id=" + id + "&ev=" + command[1] + "&dl=" + encodeURIComponent(location.href);
    }
  }
  window.fbq.callMethod = function () { obey(arguments); };
  window.fbq.queue.forEach(obey);
})();
