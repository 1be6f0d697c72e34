// consentkit in the browser. The banner is a plain form that works without this file; with it nothing reloads on
// accepting, and what was held back wakes in place. Lines that hold only a comment are left out when it is served.
'use strict';
{
  const me = document.currentScript;
  const { root, wake } = me.dataset;
  let section = document.getElementById('consentkit');
  const words = section?.dataset ?? {};
  const shared = section && me.shared?.(root, words);
  const plain = new WeakSet();
  const tabs = new BroadcastChannel('consentkit');
  let open, busy, active, before, policy, granted = [], turn = Promise.resolve();

  const all = selector => [...document.querySelectorAll(selector)];
  const emit = (name, detail) => document.dispatchEvent(new CustomEvent('consentkit:' + name, { detail }));

  // -- waking ------------------------------------------------------------------------------------------------------

  const trusted = (kind, text) => {
    if (wake != 'policy' || !self.trustedTypes) return text;
    const same = value => value;
    policy ||= trustedTypes.createPolicy('consentkit', { createHTML: same, createScriptURL: same });
    return policy[kind](text);
  };

  // What the gate moves and no more (drawing attributes are styles too), and never code: what a visitor wrote may name
  // anything. Handlers are back on the next page.
  const moves = /^(src|srcset|srcdoc|imagesrcset|href|data|poster|ping|type|rel|sandbox|style|http-equiv|values|from|to|by)$/;
  const code = /^a\w*,href|[,;]\W*javascript:/i;
  const restore = (element, moved) => {
    const value = element.getAttribute(moved);
    const name = moved.slice(16).replace('xlink:', '');
    if (!moves.test(name) && !(name in element.style)) return;
    if (code.test([element.localName, name, value.replace(/\s/g, '')])) return;
    element.removeAttribute(moved);
    element.setAttribute(name, trusted(name == 'srcdoc' ? 'createHTML' : 'createScriptURL', value));
  };

  // A script that was parsed as text never runs, and its clone neither where it came by `innerHTML`; what is parsed
  // anew does.
  const revive = parked => {
    if (!parked.isConnected) return;
    const script = 'noModule' in parked;
    let element = parked;
    if (script) {
      const range = new Range();
      range.selectNode(parked);
      element = range.createContextualFragment(trusted('createHTML', parked.outerHTML)).firstChild;
    }
    if (element.type == 'text/plain') element.removeAttribute('type');
    // Sorted: what limits a frame comes before what fills it, and what a link is for after where it leads.
    const moved = element.getAttributeNames().filter(name => /^data-consentkit-/.test(name)).sort();
    moved.forEach(name => restore(element, name));
    if (!moved.includes('data-consentkit-srcdoc')) element.removeAttribute('srcdoc');
    if (/source|track/.test(element.localName)) element.parentNode.load?.();
    if (element.localName == 'style') element.textContent = element.textContent.replace(/https:..#consentkit:|consentkit{}/g, '');
    if (!script) return;
    element.async = element.hasAttribute('async');
    element.nonce = parked.nonce;
    const done = element.src && !element.async && !element.noModule && /^$|^module$|ascript/i.test(element.type)
      && new Promise(end => ['load', 'error'].map(name => element.addEventListener(name, end)));
    parked.replaceWith(element);
    return done;
  };

  const wakeUp = () => {
    for (const form of all('[data-consentkit=withdraw]')) form.hidden = !active;
    // Ours stood where a script will now show something.
    all('[data-consentkit-place]').forEach(one => granted.includes(one.dataset.consentkitPlace) && one.remove());
    for (const element of all('[data-consentkit-needs]')) {
      if (!element.dataset.consentkitNeeds.split(' ').every(need => granted.includes(need))) continue;
      if (wake == 'reload' && element.matches('script,[data-consentkit-srcdoc]')) {
        if (!shared) return location.reload();
        continue;
      }
      element.removeAttribute('data-consentkit-needs');
      if (element.localName == 'script') turn = turn.then(() => revive(element));
      else revive(element);
    }
  };

  // -- the banner --------------------------------------------------------------------------------------------------

  const show = () => {
    open = true;
    section.hidden = false;
    new ResizeObserver(() => {
      document.documentElement.style.setProperty('--consentkit-height', section.offsetHeight + 24 + 'px');
    }).observe(section);
    section.addEventListener('focusin', ({ relatedTarget: from }) => {
      if (from && !section.contains(from)) before = from;
    });
    emit('open');
  };

  const hide = () => {
    if (!open) return;
    open = false;
    if (section.contains(document.activeElement)) before?.focus();
    section.remove();
    emit('close');
  };

  // It stays until the visitor does the next thing: no time limit (WCAG 2.2.1).
  const say = text => {
    const status = document.createElement('p');
    status.setAttribute('role', 'status');
    status.className = 'consentkit-said';
    document.body.append(status);
    setTimeout(() => {
      status.textContent = text;
      for (const name of ['keydown', 'pointerdown']) addEventListener(name, () => status.remove());
    }, 99);
  };

  const complain = (form, text) => {
    const alert = form.querySelector('[role=alert]') ?? form.appendChild(document.createElement('p'));
    alert.setAttribute('role', 'alert');
    alert.textContent = text;
  };

  const hold = (now, consented) => {
    // What this page's policy does not list can't load here: what is granted needs a page with another policy.
    const again = wake == 'again' && now.some(one => !granted.includes(one));
    granted = now;
    active = consented;
    if (again) return location.reload();
    wakeUp();
    // For what waits behind the tags: see consentkit-guard.js.
    turn.then(() => emit('awake'));
  };

  // -- answering ---------------------------------------------------------------------------------------------------

  const erase = async ({ local, session, indexeddb }) => {
    const among = patterns => name => patterns.some(
      one => RegExp(`^${one.replace(/\W/g, '\\$&').replaceAll('\\*', '.*')}$`).test(name),
    );
    for (const key of Object.keys(localStorage).filter(among(local))) localStorage.removeItem(key);
    for (const key of Object.keys(sessionStorage).filter(among(session))) sessionStorage.removeItem(key);
    for (const { name } of await indexedDB.databases()) if (among(indexeddb)(name)) indexedDB.deleteDatabase(name);
  };

  const post = async (form, button) => {
    const body = new URLSearchParams(new FormData(form));
    body.set(button.name, button.value);
    const lang = form.closest('[lang]').lang;
    if (shared && form.dataset.consentkit != 'withdraw') body.set('notice', await shared.notice(lang));
    const answer = await fetch(root + '/choice', { method: 'POST', body, keepalive: true, headers: { Accept: 'application/json' } });
    const said = await answer.json();
    if (/409|410/.test(answer.status)) return location.assign(`${root}/settings?lang=${lang}`);
    if (!answer.ok) return complain(form, said.message);
    // Let in for this page alone: nothing else changes, here or in another tab.
    if (said.once) said.granted.push(...granted);
    else tabs.postMessage(said);
    // Before anything wakes or the page goes: who listens tells the vendors.
    emit('choice', { granted: said.granted });
    if (said.once) return hold(said.granted, active);
    if (said.reload) await erase(said.clear).catch(() => 0);
    if (body.get('from') == 'settings') return location.assign(body.get('next'));
    if (said.reload) return location.reload();
    if (said.decided) hide();
    hold(said.granted, said.receipt);
    say(words.saved);
  };

  // Caught before a host's own listeners, which would send it their way.
  addEventListener('submit', me.answer = async event => {
    const { target: form, submitter } = event;
    if (!form.dataset.consentkit || plain.has(form) || !submitter || wake == 'form') return;
    if (wake == 'again' && submitter.value == 'once') return;
    event.preventDefault();
    event.stopPropagation();
    if (busy) return;
    busy = true;
    try {
      await post(form, submitter);
    } catch {
      plain.add(form);
      if (words.failed) complain(form, words.failed);
      // Without a network the visitor stays here and tries again; else the plain form does it, but not before this
      // event is over: a form that is being submitted takes no second submit.
      if (navigator.onLine) setTimeout(() => form.requestSubmit(submitter));
    }
    busy = false;
  }, true);

  tabs.onmessage = ({ data }) => {
    emit('choice', { granted: data.granted });
    if (data.withdrawn.length && active) return location.reload();
    if (data.decided) hide();
    hold(data.granted, data.receipt);
  };

  const now = shared?.read();
  if (now) {
    emit('choice', { granted: now.granted, loaded: true });
    hold(now.granted, now.active);
  }
  if (now ? now.asks && self == top : section) show();
  active = all('[data-consentkit=withdraw]:not([hidden])').length;

  // A page that swaps its body keeps the question, and in shared mode its new parts wake too.
  if (section) new MutationObserver(() => {
    if (open && !section.isConnected) {
      section = document.getElementById('consentkit') ?? (document.body.prepend(section), section);
      section.hidden = false;
    }
    wakeUp();
  }).observe(document, { childList: true, subtree: true });
}
