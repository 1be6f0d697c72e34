// Goes before consentkit.js where the choice of an earlier consent tool is taken over: hands its cookie in, once. What
// comes of it is told the way another tab would tell it.
'use strict';
{
  const me = document.currentScript;
  const { root, wake } = me.dataset;
  const has = name => document.cookie.split('; ').some(one => one.startsWith(name + '='));

  const handIn = async () => {
    const answer = await fetch(root + '/import', { method: 'POST', headers: { Accept: 'application/json' } });
    if (answer.ok) new BroadcastChannel('consentkit').postMessage(await answer.json());
  };

  // What could not be handed in counts for nothing; the next page tries again.
  const start = () => wake != 'form' && handIn().catch(() => 0);

  // Where everybody gets the same page, everybody gets this script too.
  const make = me.shared;
  if (!make) start();
  else me.shared = (root, words) => {
    const shared = make(root, words);
    if (has(words.cookie) || !'@@OLD@@'.split(' ').some(has) || !start()) return shared;
    return { ...shared, read: () => ({ ...shared.read(), asks: false }) };
  };
}
