// A site's own script that inserts and fetches everything in every way, from the host that it is given.
window.errors = [];
window.results = {};
window.ran = [];
const trusted = text => window.policy?.createHTML(text) ?? text;
const url = text => window.policy?.createScriptURL(text) ?? text;
const make = (name, values = {}) => Object.assign(document.createElement(name), values);
const spot = () => document.body.appendChild(document.createElement('div'));

const lent = () => document.body.appendChild(make('iframe', { title: 'Vak' }));

const ways = {
  // Scripts: in order where they ask for it.
  script: at => document.head.appendChild(make('script', { src: url(at + '.js'), type: 'text/javascript', onload: () => ran.push(at) })),
  ordered(at) {
    const first = document.getElementsByTagName('script')[0];
    first.parentNode.insertBefore(make('script', { src: url(at), async: false }), first);
  },
  connected: at => (document.head.appendChild(make('script')).src = url(at)),
  attribute: at => document.body.append(((one) => (one.setAttribute('src', url(at)), one))(make('script'))),
  nested(at) {
    const box = make('div');
    box.append(make('p'), make('script', { src: url(at) }));
    document.body.append(box);
  },
  // Pictures load at once, wherever they are.
  image: at => (new Image().src = at),
  imageset: at => (new Image().srcset = `${at} 1x,/own.png 2x`),
  imageattribute: at => make('img').setAttribute('SRC', at),
  imagemarkup: at => (make('div').innerHTML = trusted(`<p>Een <img alt="" src="${at}"></p>`)),
  imageouter: at => (spot().outerHTML = trusted(`<b><img alt="" src='${at}'></b>`)),
  imageadjacent: at => spot().insertAdjacentHTML('afterend', trusted(`<img alt="" srcset="${at}">`)),
  imagefragment: at => document.createRange().createContextualFragment(trusted(`<img alt="" src="${at}">`)),
  imageunsafe: at => spot().setHTMLUnsafe(trusted(`<img alt="" src="${at}">`)),
  imageparsed(at) {
    const other = new DOMParser().parseFromString(trusted(`<img alt="" src="${at}">`), 'text/html');
    spot().append(other.querySelector('img'));
  },
  imagetemplate(at) {
    const template = make('template');
    template.innerHTML = trusted(`<i><img alt="" src="${at}"></i>`);
    spot().append(document.importNode(template.content, true));
  },
  imageshadow: at => (spot().attachShadow({ mode: 'open' }).innerHTML = trusted(`<img alt="" src="${at}">`)),
  // An empty frame has an Image and a document of its own.
  imagelent: at => (new (lent().contentWindow.Image)().src = at),
  imageinside: at => (lent().contentDocument.createElement('img').src = at),
  framewritten(at) {
    const page = lent().contentDocument;
    page.open();
    page.write(trusted(`<title>Vak</title><img alt="" src="${at}">`));
    page.close();
  },
  input: at => make('input', { type: 'image', src: at }),
  svg(at) {
    const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
    const image = document.createElementNS('http://www.w3.org/2000/svg', 'image');
    image.setAttribute('href', at);
    svg.prepend(image);
    document.body.insertBefore(svg, null);
  },
  // Frames, style sheets, media.
  frame: at => document.body.append(make('iframe', { title: 'Frame', src: at })),
  framemarkup: at => (spot().innerHTML = trusted(`<iframe title="Frame" src="${at}"></iframe>`)),
  sheet(at) {
    const link = make('link', { href: at });
    link.rel = 'stylesheet';
    document.head.append(link);
  },
  sheetmarkup: at => (spot().innerHTML = trusted(`<link rel=stylesheet href="${at}">`)),
  prefetch: at => document.head.prepend(make('link', { rel: 'preload', as: 'image', href: at })),
  video: at => (make('video').src = at),
  poster: at => spot().replaceWith(make('video', { poster: at })),
  source(at) {
    const audio = make('audio', { preload: 'auto' });
    audio.append(make('source', { src: at }));
    spot().after(audio);
  },
  audio: at => new Audio(at),
  node(at) {
    const source = document.createAttribute('src');
    source.value = at;
    make('img').setAttributeNode(source);
  },
  embed: at => spot().before(make('embed', { src: url(at) })),
  object: at => document.body.replaceChild(make('object', { data: url(at) }), spot()),
};
// Where a policy wants trusted values, a page's own markup comes in no other way than it was trusted.
if (window.policy) delete ways.framewritten;
const requests = {
  fetch: at => fetch(at, { mode: 'no-cors' }).then(() => 'here', error => error.name),
  request: at => new Promise(done => {
    const request = new XMLHttpRequest();
    request.open('GET', at);
    request.onload = () => done('here');
    request.onerror = () => done('error');
    request.send();
  }),
  fetchlent: at => lent().contentWindow.fetch(at, { mode: 'no-cors' }).then(() => 'here', error => error.name),
  beacon: async at => navigator.sendBeacon(at, 'x'),
  events: async at => (new EventSource(at).onerror = () => (results.events = 'heard')) && 'made',
  socket: async at => {
    const socket = new WebSocket(at.replace('http', 'ws'));
    socket.addEventListener('error', () => (results.socket = 'heard'));
    return `made ${socket.readyState}`;
  },
};

window.late = (base, name) => {
  for (const [way, insert] of Object.entries(ways)) {
    try {
      insert(`${base}/late/${way}`);
    } catch (error) {
      errors.push(`${way}: ${error}`);
    }
  }
  results[name] = {};
  for (const [way, send] of Object.entries(requests)) {
    send(`${base}/late/${way}`).then(said => (results[name][way] = said), error => errors.push(`${way}: ${error}`));
  }
};
window.everything = [...Object.keys(ways), ...Object.keys(requests)].map(way => (way == 'script' ? 'script.js' : way));
