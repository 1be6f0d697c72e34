// Goes before consentkit.js where the HTML is the same for everybody (`html = "shared"`): the browser reads the
// choice from the cookie, and asks for a notice token just before it answers.
'use strict';
document.currentScript.shared = (root, { purposes, cookie, days }) => {
  const asked = purposes.split(' ').filter(Boolean).map(one => one.match(/([^=]+)=(\w+)(\+?)/));

  // What holds now: the same as `choice.state.decide` on the server.
  const read = () => {
    const signal = navigator.globalPrivacyControl || navigator.doNotTrack == '1';
    const answered = {};
    let decided = false;
    const found = document.cookie.split('; ').find(one => one.startsWith(cookie + '='));
    try {
      const packed = atob(found.slice(cookie.length + 1).split('.')[0].replace(/-/g, '+').replace(/_/g, '/'));
      const byte = at => packed.charCodeAt(at);
      const day = byte(2) * 256 + byte(3);
      const today = Math.floor((Date.now() - Date.UTC(2020)) / 864e5);
      if (byte(0) == 1 && day <= today + 1 && today <= day + Number(days)) {
        decided = byte(1) & 1;
        for (let n = 0; n < byte(4); n++) {
          const print = [5, 6, 7].map(at => byte(at + 3 * n).toString(16).padStart(2, 0)).join('');
          answered[print] = byte(5 + 3 * byte(4) + (n >> 3)) >> (n & 7) & 1;
        }
      }
    } catch {
      // No cookie, or none of ours: nothing is granted.
    }
    const on = asked.filter(([, , print, optOut]) => answered[print] ?? (optOut && !signal));
    const consents = asked.filter(([, , , optOut]) => !optOut);
    // What an earlier consent tool's cookie answered is not asked (`State.settled` on the server).
    if (!decided && consents.some(([, , print]) => answered[print] === 0)) {
      for (const [, id, print] of consents) {
        if (print in answered) document.querySelectorAll(`#consentkit [data-purpose="${id}"]`).forEach(one => one.remove());
      }
    }
    return {
      granted: on.map(([, id]) => id),
      active: on.some(one => consents.includes(one)),
      decided: !!decided,
      asks: consents.length && !signal && (!decided || consents.some(([, , print]) => !(print in answered))),
    };
  };

  const notice = async lang => (await (await fetch(`${root}/notice?lang=${lang}`)).json()).notice;

  return { read, notice };
};
