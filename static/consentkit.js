// consentkit in the browser. The banner is a plain form that works without this file; with it nothing reloads on
// accepting, and what was held back wakes in place. Lines that hold only a comment are left out when it is served.
'use strict';
{
  const me = document.currentScript;
  const { root, wake } = me.dataset;
  let section = document.getElementById('consentkit');
  const words = { ...section?.dataset };
  const shared = section && me.shared?.(root, words);
  const plain = new WeakSet();
  const tabs = new BroadcastChannel('consentkit');
  let granted = [];
  let open, busy, active, before, policy;
  let turn = Promise.resolve();

  const prefix = 'data-consentkit-';
  const all = selector => [...document.querySelectorAll(selector)];
  const emit = (name, detail) => document.dispatchEvent(new CustomEvent('consentkit:' + name, { detail }));

  // -- waking ------------------------------------------------------------------------------------------------------

  const trusted = (kind, text) => {
    if (wake != 'policy' || !self.trustedTypes) return text;
    const same = value => value;
    policy ||= trustedTypes.createPolicy('consentkit', { createHTML: same, createScript: same, createScriptURL: same });
    return policy['create' + kind](text);
  };

  const restore = (element, name) => {
    const value = element.getAttribute(prefix + name);
    const kind = name == 'srcdoc' ? 'HTML' : /^(src|data)$/.test(name) && 'ScriptURL';
    element.removeAttribute(prefix + name);
    element.setAttribute(name, kind ? trusted(kind, value) : value);
  };

  // A script that was parsed as text never runs; a copy does. The copy keeps its attributes without setting one of
  // them, so that Trusted Types have nothing to object to but source and text.
  const revive = parked => {
    if (!parked.isConnected) return;
    const script = parked.localName == 'script';
    const element = script ? parked.cloneNode(true) : parked;
    if (script) element.removeAttribute('type');
    const moved = element.getAttributeNames().filter(name => name.startsWith(prefix)).map(name => name.slice(16));
    // What limits a frame is put back before what fills it.
    moved.sort((a, b) => /^src/.test(a) - /^src/.test(b)).forEach(name => restore(element, name));
    if (element.localName == 'iframe' && !moved.includes('srcdoc')) element.removeAttribute('srcdoc');
    if (/^(source|track)$/.test(element.localName)) element.parentNode.load?.();
    if (!script) return;
    const late = element.hasAttribute('async');
    if (!late) element.async = false;
    element.nonce = parked.nonce;
    if (!element.src) element.text = trusted('Script', parked.text);
    const waits = element.src && !late && !element.noModule && /^$|^module$|ascript/i.test(element.type);
    const done = waits && new Promise(end => ['load', 'error'].map(name => element.addEventListener(name, end)));
    parked.replaceWith(element);
    return done;
  };

  const wakeUp = () => {
    for (const element of all('[data-consentkit-needs]')) {
      if (!element.dataset.consentkitNeeds.split(' ').every(need => granted.includes(need))) continue;
      const script = element.localName == 'script';
      if (wake == 'reload' && (script || element.hasAttribute('data-consentkit-srcdoc'))) {
        if (!shared) return location.reload();
        continue;
      }
      element.removeAttribute('data-consentkit-needs');
      if (script) turn = turn.then(() => revive(element));
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
    const inside = section.contains(document.activeElement);
    section.remove();
    if (inside) before?.focus();
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
    granted = now;
    active = consented;
    for (const form of all('form[data-consentkit=withdraw]')) form.hidden = !active;
    wakeUp();
    emit('choice', { granted });
  };

  // -- answering ---------------------------------------------------------------------------------------------------

  const erase = async ({ local, session, indexeddb }) => {
    const among = patterns => {
      const escaped = patterns.map(one => one.replace(/\W/g, '\\$&').replaceAll('\\*', '.*'));
      return name => RegExp(`^(${escaped.join('|')})$`).test(name);
    };
    for (const [store, patterns] of [[localStorage, local], [sessionStorage, session]]) {
      Object.keys(store).filter(among(patterns)).forEach(key => store.removeItem(key));
    }
    for (const { name } of await indexedDB.databases()) if (among(indexeddb)(name)) indexedDB.deleteDatabase(name);
  };

  const post = async (form, button) => {
    const body = new URLSearchParams(new FormData(form));
    body.set(button.name, button.value);
    const lang = form.closest('[lang]').lang;
    if (shared && form.dataset.consentkit == 'banner') body.set('notice', await shared.notice(lang));
    const answer = await fetch(root + '/choice', { method: 'POST', body, keepalive: true, headers: { Accept: 'application/json' } });
    const said = await answer.json();
    if ([409, 410].includes(answer.status)) return location.assign(`${root}/settings?lang=${lang}`);
    if (!answer.ok) return complain(form, said.message);
    tabs.postMessage(said);
    if (said.reload) await erase(said.clear).catch(() => 0);
    if (body.get('from') == 'settings') return location.assign(body.get('next'));
    if (said.reload) return location.reload();
    hide();
    hold(said.granted, !!said.receipt);
    say(words.saved);
  };

  // Caught before a host's own listeners, which would send it their way.
  addEventListener('submit', async event => {
    const { target: form, submitter } = event;
    if (!form.dataset.consentkit || plain.has(form) || !submitter || wake == 'form') return;
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
    if (data.withdrawn.length && active) return location.reload();
    hide();
    hold(data.granted, !!data.receipt);
  };

  const now = shared?.read();
  if (now) hold(now.granted, now.active);
  if (now ? now.asks && self == top : section) show();
  active = all('form[data-consentkit=withdraw]:not([hidden])').length;

  // A page that swaps its body keeps the question, and in shared mode its new parts wake too.
  if (section) new MutationObserver(() => {
    if (open && !section.isConnected) {
      const other = document.getElementById('consentkit');
      if (other) section = other;
      else document.body.prepend(section);
    }
    if (shared) wakeUp();
  }).observe(document, { childList: true, subtree: true });
}
