// Tells the vendors' own consent interfaces what the visitor decided: before anything of theirs runs, and at every
// decision. It loads nothing and keeps nothing. Lines that hold only a comment are left out when it is served.
'use strict';
{
  const me = document.currentScript;
  const { vendors: asked, passthrough } = '@@SIGNALS@@';
  const now = me.shared?.(me.dataset.root, me.dataset).read();
  let granted = now ? now.granted : me.dataset.granted.split(' ').filter(Boolean);
  const decided = now ? now.decided || now.active : 'decided' in me.dataset;

  const on = needs => needs?.every(need => granted.includes(need)) ?? false;
  const state = name => Object.fromEntries(
    Object.entries(asked[name]).map(([signal, needs]) => [signal, on(needs) ? 'granted' : 'denied']),
  );
  const nothing = name => Object.fromEntries(
    Object.entries(asked[name]).map(([signal, needs]) => [signal, needs?.length == 0 ? 'granted' : 'denied']),
  );
  const agreed = name => on(asked[name].consent);

  // -- vendors that read a queue: it may be there before them ------------------------------------------------------

  // A page that puts another array in its place (`dataLayer = [{…}]`) gets what was said at its front.
  let layer;
  const said = [];
  const keepLayer = () => {
    layer = window.dataLayer ||= [];
    Object.defineProperty(window, 'dataLayer', {
      configurable: true,
      enumerable: true,
      get: () => layer,
      set: other => {
        layer = other;
        if (Array.isArray(other) && !other.includes(said[0])) other.unshift(...said);
      },
    });
  };

  // Google reads `arguments` objects only: an array would be taken for data.
  function gtag() {
    said.push(arguments);
    window.dataLayer.push(arguments);
  }

  let redacted = false;
  const redact = ({ ad_storage: ads }) => {
    if (redacted == (ads == 'denied')) return;
    redacted = ads == 'denied';
    gtag('set', 'ads_data_redaction', redacted);
  };

  const google = {
    start: () => {
      keepLayer();
      const now = decided ? state('google') : nothing('google');
      gtag('consent', 'default', { ...now, wait_for_update: 500 });
      redact(now);
      if (passthrough) gtag('set', 'url_passthrough', true);
      if (decided) gtag('consent', 'update', now);
    },
    tell: () => {
      redact(state('google'));
      gtag('consent', 'update', state('google'));
    },
  };

  const bing = (...words) => (window.uetq ||= []).push('consent', ...words);
  const uet = {
    start: () => {
      bing('default', decided ? state('uet') : nothing('uet'));
      if (decided) bing('update', state('uet'));
    },
    tell: () => bing('update', state('uet')),
  };

  const recorder = () => {
    window.clarity ||= function () {
      (window.clarity.q ||= []).push(arguments);
    };
    window.clarity('consentv2', state('clarity'));
  };
  const clarity = { start: recorder, tell: recorder };

  // `rememberConsentGiven` is never called: Matomo would remember for ever.
  let counting;
  const count = name => (window._paq ||= []).push([name]);
  const matomo = {
    start: () => {
      count('requireConsent');
      matomo.tell();
    },
    tell: () => {
      if (agreed('matomo')) count('setConsentGiven');
      else if (counting) count('forgetConsentGiven');
      counting = agreed('matomo');
    },
  };

  const tok = name => (window.ttq?.[name] ? window.ttq[name]() : (window.ttq ||= []).push([name]));
  const tiktok = {
    start: () => tok(agreed('tiktok') ? 'grantConsent' : 'holdConsent'),
    tell: () => tok(agreed('tiktok') ? 'grantConsent' : 'revokeConsent'),
  };

  // -- vendors whose snippet stops where their function exists: told between its making and its first use -----------

  const atFirstUse = (name, call) => {
    let value = window[name];
    let told;
    const tell = () => {
      if (told || !(value?.queue || value?.callMethod)) return;
      told = true;
      call(value);
    };
    Object.defineProperty(window, name, {
      configurable: true,
      enumerable: true,
      get: () => {
        tell();
        return value;
      },
      set: other => {
        value = other;
      },
    });
    return {
      start: tell,
      tell: () => {
        told = false;
        tell();
      },
    };
  };

  const known = {
    google: () => google,
    uet: () => uet,
    clarity: () => clarity,
    matomo: () => matomo,
    tiktok: () => tiktok,
    meta: () => atFirstUse('fbq', fbq => fbq('consent', agreed('meta') ? 'grant' : 'revoke')),
    pinterest: () => atFirstUse('pintrk', pintrk => pintrk('setconsent', agreed('pinterest'))),
  };

  // What one vendor's code throws keeps none of the others from being told.
  const safely = work => {
    try {
      return work();
    } catch (error) {
      console.warn('consentkit: a vendor could not be told', error);
    }
  };

  const vendors = Object.keys(asked).map(name => safely(() => known[name]()));
  const each = verb => vendors.forEach(vendor => safely(() => vendor?.[verb]()));
  each('start');
  document.addEventListener('consentkit:choice', ({ detail }) => {
    if (detail.loaded) return;
    granted = detail.granted;
    each('tell');
  });
}
