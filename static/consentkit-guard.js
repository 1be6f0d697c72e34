// The guard: while consent is missing, what a script inserts or fetches from a registered host waits here, and goes
// on in its order once it is granted. It runs before any script of the page. Lines that hold only a comment are left
// out when it is served; the hosts are filled in then.
'use strict';
// A name that no markup of the page can take.
if (!self[Symbol.for('consentkit')]) {
  const me = document.currentScript;
  const { registry, strict, others } = '@@GUARD@@';
  const { getAttribute, setAttribute, removeAttribute } = Element.prototype;
  const { insertBefore } = Node.prototype;
  const inert = document.implementation.createHTMLDocument();
  const prefix = 'data-consentkit-';
  let { granted, asks } = me.shared
    ? me.shared(me.dataset.root, me.dataset).read()
    : { granted: me.dataset.granted.split(' '), asks: 'asks' in me.dataset };

  // What goes wrong here is none of the page's business.
  const attempt = work => {
    try {
      return work();
    } catch {}
  };

  // -- what a URL needs --------------------------------------------------------------------------------------------

  const known = { __proto__: null };
  let whole = strict;
  let loading;

  // A line is `host/path?parameter need`: without a need nobody can grant it, with an empty one nobody has to.
  const learn = line => {
    const [, host, path, parameter, need = '-'] = line.match(/([^/ ]+)([^? ]*)\??([^ ]*)(?: (.*))?/);
    (known[host] ||= []).push([path, parameter, need]);
  };
  [...registry, location.hostname + ' '].forEach(learn);

  // The hosts of all other known services are many, and most pages need none: they come with the first stranger.
  // Where they don't come, a stranger is one that nobody knows.
  const load = now => {
    if (loading && !now) return;
    loading ||= !now;
    const request = new XMLHttpRequest();
    const done = () => {
      const list = attempt(() => JSON.parse(request.responseText));
      if (now && !list) return load();
      whole = true;
      list?.forEach(learn);
      flush();
    };
    if (!now) request.onloadend = done;
    attempt(() => {
      request.open('GET', new URL(others, me.src), !now);
      request.send();
    });
    if (now) done();
  };

  const parse = url => attempt(() => new URL(url, document.baseURI));

  // The same as `gate.registry.Registry`: the longest host, then the longest path, then a parameter.
  const find = ({ hostname, pathname, search }) => {
    const path = unescape(pathname).toLowerCase();
    const asked = unescape(search.slice(1)).split('&');
    for (let host = hostname.replace(/\.+$/, ''); host; host = host.replace(/^[^.]+\.?/, '')) {
      for (const [start, parameter, need] of known[host] ?? []) {
        if (path.startsWith(start) && (/^$|\/$/.test(start) || !/[\w-]/.test(path.charAt(start.length)))
          && asked.some(one => one.startsWith(parameter))) return need;
      }
    }
  };

  const missing = needs => [...new Set(needs.join(' ').split(' '))]
    .filter(need => need && !granted.includes(need)).sort().join(' ');

  const read = code => missing(
    [...code.replace(/\\\//g, '/').matchAll(/\/\/[\w.-]+\.[^\s"'`<>\\]+/g)]
      .map(([place]) => attempt(() => find(parse('https:' + place)))),
  );

  // "?": nobody can tell before the list of the others is there. What is written into the page can't wait for it.
  const judge = (url, now) => {
    if (/^(data:image|blob:)/i.test(url)) return '';
    const to = parse(url);
    if (/^(javascript:|data:text)/.test(to)) return read(unescape(to));
    if (!/^(http|ws)/.test(to)) return '';
    let need = find(to);
    if (need == null && !whole) {
      load(now);
      need = find(to);
    }
    return missing([need ?? (strict ? '-' : whole || now == 'written' ? '' : '?')]);
  };

  // -- what waits --------------------------------------------------------------------------------------------------

  let waiting = [];
  const wait = (needs, go, no, late) => {
    waiting.push({ needs, go, no, late });
    if (!asks) setTimeout(flush);
  };
  // Elements in the order in which they came, then requests in theirs.
  const flush = () => {
    for (const one of waiting.splice(0)) {
      const needs = one.needs();
      const work = needs ? one.no : one.go;
      if (needs && (asks || needs.includes('?'))) waiting.push(one);
      else if (one.late) setTimeout(attempt, 0, work);
      else attempt(work);
    }
  };

  // -- elements ----------------------------------------------------------------------------------------------------

  const names = 'src srcset srcdoc data poster background imagesrcset ping href xlink:href'.split(' ');
  const loads = 'script,link,image,use,feImage,' + names.slice(0, 8).map(name => `[${name}]`);
  // What was moved aside, by element: as it was given, so that a trusted value stays one.
  const held = new WeakMap();
  const isScript = element => element.localName == 'script';

  const weigh = (element, name, value, now) => {
    const { localName, rel } = element;
    if (value == null || /-/.test(localName)
      || !(name == 'background' ? /^(t|body)/.test(localName) : /href|image/.test(name) || name in element)) return '';
    if (/href/.test(name) && (localName == 'link' ? rel && !/style|icon|pre|manifest/i.test(rel)
      : localName == 'a' || !/svg/.test(element.namespaceURI))) return '';
    if (name == 'srcdoc') return missing([...parsed(0, value).querySelectorAll(loads)].map(one => needsOf(one)));
    return missing((/set|ping/.test(name) ? `${value}`.split(/[\s,]+/) : [value])
      .map(url => judge(url, now || (isScript(element) && !element.async))));
  };

  const needsOf = (element, now) => {
    const moved = held.get(element) ?? {};
    const needs = names.map(name => weigh(element, name, moved[name] ?? getAttribute.call(element, name), now));
    if (isScript(element)) {
      if (!/^$|^module$|[aej]script/i.test(moved.type ?? element.type)) return '';
      if (!element.src) needs.push(read(element.textContent));
    }
    return missing(needs);
  };

  const put = (element, name, value) =>
    value == null ? removeAttribute.call(element, name) : setAttribute.call(element, name, value);

  const mark = element => {
    const needs = held.has(element) ? needsOf(element) : '';
    put(element, prefix + 'needs', needs || null);
    return needs;
  };

  // A script keeps its source: as text it loads nothing, and whoever asks for the source gets it.
  const park = (element, needs, values) => {
    let moved = held.get(element);
    if (!moved) {
      held.set(element, moved = {});
      wait(() => mark(element), () => wake(element));
      if (isScript(element)) values = { type: element.type };
    }
    for (const name in values) {
      put(element, name);
      put(element, prefix + name, moved[name] = values[name]);
    }
    if (isScript(element)) put(element, 'type', 'text/plain');
    put(element, prefix + 'needs', missing([needs, needsOf(element)]));
  };

  // The same element goes on, with the listeners it has. A script runs when it comes in: a removed one too.
  const wake = element => {
    const moved = held.get(element);
    const { parentNode, nextSibling } = element;
    held.delete(element);
    if (isScript(element)) element.remove();
    for (const name in moved) {
      put(element, prefix + name);
      put(element, name.replace('xlink:', ''), moved[name]);
    }
    if (isScript(element)) insertBefore.call(parentNode ?? document.head, element, nextSibling);
    if (parentNode?.canPlayType) parentNode.load();
  };

  // Scripts and links load when they come into the page (`live`: 1 links, 2 scripts too), all else before.
  const scan = (elements, live, now) => {
    let found;
    for (const element of elements) {
      if (live < (isScript(element) ? 2 : element.localName == 'link')) continue;
      const needs = needsOf(element, now);
      if (!needs) continue;
      const values = {};
      for (const name of isScript(element) ? [] : names) {
        const value = getAttribute.call(element, name);
        if (weigh(element, name, value)) values[name] = value;
      }
      park(element, needs, values);
      found = true;
    }
    return found;
  };

  // -- the ways in -------------------------------------------------------------------------------------------------

  // A hook that gives a list holds what was asked, and what is in the list is the answer.
  const hooked = (native, hook, name) => native && new Proxy(native, {
    apply: (_, self, args) => {
      const instead = attempt(() => hook(self, args, native, name));
      return instead ? instead[0] : Reflect.apply(native, self, args);
    },
  });

  const attribute = (element, name, value) => {
    name = name.toLowerCase().replace('xlink:', '');
    if (!names.includes(name) || (/script|link/.test(element.localName) && !element.isConnected)) return;
    const needs = weigh(element, name, value);
    const moved = held.get(element);
    if (needs) park(element, needs, { [name]: value });
    else if (moved) {
      delete moved[name];
      put(element, prefix + name);
      mark(element);
      setTimeout(flush);
    }
    return needs && !isScript(element) && [];
  };

  const insert = (target, nodes, _, method) => {
    const live = /^[ia].*tNode/.test(method) || target.isConnected == false ? 0 : 2;
    for (const node of nodes) {
      // What was made for this page was judged when it got its URL, but for scripts and links.
      if (!node?.nodeType || (node.ownerDocument == document && (node.isConnected || !live))) continue;
      if (node.matches?.(loads)) scan([node], live);
      if (node.firstElementChild) scan(node.querySelectorAll(loads), live);
    }
  };

  // Markup is read where nothing loads; only if something in it is held the page gets what was read.
  const natives = Object.getOwnPropertyDescriptors(Element.prototype);
  const box = like => {
    const { namespaceURI, localName } = like?.localName ? like : inert.body;
    return inert.createElementNS(namespaceURI, localName);
  };
  const markup = (html, live, make, use) => {
    if (!/src|href|data|poster|ping|background/i.test(html)) return;
    const made = make();
    return scan(made.querySelectorAll(loads), live, live > 1 && 'written') && [attempt(() => use(made))];
  };
  const parsed = (like, html, write = natives.innerHTML.set, args = [html]) => {
    const made = box(like);
    write.apply(made, args);
    return made;
  };

  const opened = new WeakMap();
  const later = (url, go, no) => [wait(() => judge(url), go, no, true)];

  // An empty frame has the same ways as the page that made it.
  const arm = self => {
    if (self[Symbol.for('consentkit')]) return;
    self[Symbol.for('consentkit')] = me;

    const patch = (methods, kinds, hook) => {
      for (const kind of kinds.split(' ')) {
        for (const name of methods.split(' ')) {
          const where = self[kind]?.prototype;
          const own = where && Object.getOwnPropertyDescriptor(where, name);
          if (own?.value) where[name] = hooked(own.value, hook, name);
          else if (own) Object.defineProperty(where, name, {
            get: own.set ? function() {
              const value = held.get(this)?.[name.toLowerCase()];
              return value == null ? own.get.call(this) : /set|doc|ping/.test(name) ? `${value}` : parse(value).href;
            } : hooked(own.get, hook),
            set: hooked(own.set, hook, name),
          });
        }
      }
    };

    patch('src srcset srcdoc data poster imageSrcset ping href',
      'Script Link IFrame Frame Image Source Track Media Video Embed Input Object Anchor'.replace(/\w+/g, 'HTML$&Element'),
      (element, [value], _, name) => attribute(element, name, value));
    patch('setAttribute removeAttribute setAttributeNS removeAttributeNS', 'Element',
      (element, args, _, method) => attribute(element, ...args.slice(/NS/.test(method))));
    patch('setAttributeNode setAttributeNodeNS', 'Element', (element, [{ name, value }]) => attribute(element, name, value));
    self.Audio = new Proxy(self.Audio, {
      construct: (Native, [src], target) =>
        Object.assign(Reflect.construct(Native, [], target), src !== undefined && { src }),
    });

    patch('appendChild insertBefore replaceChild', 'Node', insert);
    patch('append prepend replaceChildren before after replaceWith insertAdjacentElement importNode adoptNode insertNode',
      'Element Document DocumentFragment CharacterData Range', insert);

    patch('innerHTML outerHTML setHTMLUnsafe setHTML', 'Element ShadowRoot', (element, args, _, name) => {
      const where = name == 'outerHTML' ? 'replaceWith' : 'replaceChildren';
      const like = name == 'outerHTML' ? element.parentNode : element.host ?? element;
      return markup(args[0], +element.isConnected, () => parsed(like, args[0], natives[name]?.value, args),
        made => element[where](...made.childNodes));
    });
    patch('insertAdjacentHTML', 'Element', (element, [where, html]) => markup(html, +element.isConnected,
      () => parsed(/^(beforeb|aftere)/i.test(where) ? element.parentNode : element, html),
      made => element.insertAdjacentElement(where, box()).replaceWith(...made.childNodes)));
    patch('createContextualFragment', 'Range', (range, [html], native) => markup(html, 0, () => {
      const other = inert.createRange();
      const { startContainer: start } = range;
      other.selectNodeContents(inert.body.appendChild(box(start.localName ? start : start.parentNode)));
      return native.call(other, html);
    }, made => document.adoptNode(made)));
    // What is written into a frame nobody else can wake.
    patch('write writeln', 'Document', (page, args, native) => {
      const html = args[1] == null ? args[0] : args.join('');
      return markup(html, 2, () => parsed(0, html), made => {
        native.call(page, page == document ? made.innerHTML : '<body>');
        if (page != document) page.body.append(...made.childNodes);
      });
    });

    self.fetch = hooked(self.fetch, (_, args, native) => {
      const url = args[0]?.url ?? args[0];
      return judge(url) && [new Promise((resolve, reject) => {
        const { signal } = args[1] ?? args[0];
        signal?.addEventListener('abort', () => reject(signal.reason));
        later(url, () => resolve(native(...args)), () => reject(new TypeError('Failed to fetch')));
      })];
    });

    patch('open', 'XMLHttpRequest', (request, args) => {
      opened.set(request, args);
      held.delete(request);
    });
    patch('send', 'XMLHttpRequest', (request, args, native) => {
      const [, url, async] = opened.get(request);
      if (!judge(url, async === false)) return;
      held.set(request, args);
      const once = work => () => held.get(request) == args && held.delete(request) && work();
      return later(url, once(() => native.apply(request, args)),
        once(() => ['error', 'loadend'].map(type => request.dispatchEvent(new ProgressEvent(type)))));
    });
    // What is aborted has to be on its way: to us.
    patch('abort', 'XMLHttpRequest', request => {
      if (!held.delete(request)) return;
      request.open('GET', me.src);
      request.send();
    });

    patch('sendBeacon', 'Navigator', (self, args, native) => judge(args[0]) && later(args[0], () => native.apply(self, args)) && [true]);

    // These give an object at once: ours stands in, and keeps what is done to it for the real one.
    for (const name of ['WebSocket', 'EventSource']) self[name] = new Proxy(self[name], {
      construct: (Native, args, target) => {
        if (!attempt(() => judge(args[0]))) return Reflect.construct(Native, args, target);
        let real, kept = [];
        const soon = work => real ? work() : kept.push(work);
        later(args[0], () => {
          real = new Native(...args);
          kept.forEach(work => work());
        });
        const state = { __proto__: null, readyState: 0, url: parse(args[0]).href };
        return new Proxy(Object.create(Native.prototype), {
          get: (own, key) => typeof key == 'string' && /^(add|remove|dis|send|close)/.test(key)
            ? (...all) => soon(() => real[key](...all))
            : real ? real[key] : state[key] ?? attempt(() => own[key]),
          set: (_, key, value) => {
            state[key] = value;
            soon(() => real[key] = value);
            return true;
          },
        });
      },
    });

    patch('contentWindow contentDocument', 'HTMLIFrameElement', (frame, _, native) => {
      const found = native.call(frame);
      if (/^about:/.test((found.document ?? found).URL)) arm(found.defaultView ?? found);
    });
  };
  arm(self);

  document.addEventListener('consentkit:choice', ({ detail }) => {
    granted = detail.granted;
    for (const one of waiting) one.needs();
  });
  // What the server held is awake by now.
  document.addEventListener('consentkit:awake', () => {
    asks = document.querySelector('#consentkit:not([hidden])');
    flush();
  });
}
