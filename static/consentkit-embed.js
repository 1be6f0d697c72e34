// Within the placeholder of what is held back. Its form works without this file; with it the page around lets the
// content in on the spot, where its own script is there to do so. Lines that hold only a comment are left out.
'use strict';
{
  const main = parent.document.querySelector('script[data-wake]');
  const [form, link] = ['form', '[data-consentkit=choose]'].map(one => document.querySelector(one));
  const { wake } = main?.dataset ?? {};
  // Where everybody gets the same page only a script can answer, and it can not where it may not fetch.
  if (link && main && wake != 'form') {
    form.hidden = false;
    link.hidden = true;
  }
  addEventListener('submit', event => {
    if (link || wake != 'reload') main?.answer?.(event);
  });
}
