// The console without this works too: forms are forms, lists are links. This spares a reload and a second click.
{
'use strict';
// A form is sent once: a second click waits for the first.
document.addEventListener('submit', event => {
    const form = event.target;
    if (!form.matches('[data-ck-once]')) return;
    if (form.dataset.sent) { event.preventDefault(); return; }
    form.dataset.sent = 'yes';
    setTimeout(() => { delete form.dataset.sent; }, 10000);
});
addEventListener('pageshow', event => {
    if (event.persisted) for (const form of document.querySelectorAll('[data-sent]')) delete form.dataset.sent;
});
// What was done is told once: not again to who comes back to the page, or loads it again.
{
    const here = new URL(location.href);
    if (here.searchParams.has('told')) {
        here.searchParams.delete('told');
        history.replaceState(null, '', here);
    }
}
// A file that is too large is not sent first.
document.addEventListener('change', event => {
    const { dataset, files } = event.target;
    if (!dataset.ckMost) return;
    const size = [...files].reduce((sum, file) => sum + file.size, 0);
    event.target.setCustomValidity(size > dataset.ckMost * 1048576 ? dataset.ckTooLarge : '');
    event.target.reportValidity();
});
// What is still being counted is asked for again, less and less often.
const again = document.querySelector('[data-ck-again]');
if (again) {
    const tried = Number(sessionStorage.getItem('consentkit-again') || 0);
    sessionStorage.setItem('consentkit-again', String(tried + 1));
    setTimeout(() => { location.reload(); }, Math.min(500 * 2 ** tried, 15000));
} else {
    sessionStorage.removeItem('consentkit-again');
}
// How a mailing goes, as it goes: each element that names a figure gets its text.
const live = document.querySelector('[data-ck-live]');
if (live) {
    const source = new EventSource(live.dataset.ckLive);
    source.onmessage = event => {
        const told = JSON.parse(event.data);
        if (told.reload) {
            source.close();
            location.reload();
            return;
        }
        for (const element of document.querySelectorAll('[data-ck-figure]')) {
            const value = told[element.dataset.ckFigure];
            if (value === undefined) continue;
            if (element.localName === 'progress') { element.value = value; element.max = told.total || 1; }
            else if (element.textContent !== String(value)) element.textContent = value;
        }
    };
    addEventListener('pagehide', () => source.close());
}
// Buttons that put a field into a text: where the cursor is.
document.addEventListener('click', event => {
    const button = event.target.closest('button[data-ck-insert]');
    if (!button) return;
    const text = document.getElementById(button.dataset.ckInto);
    text.setRangeText(button.dataset.ckInsert, text.selectionStart, text.selectionEnd, 'end');
    text.focus();
});
// What is to be copied.
document.addEventListener('click', event => {
    const button = event.target.closest('button[data-ck-copy]');
    if (!button) return;
    navigator.clipboard.writeText(document.getElementById(button.dataset.ckCopy).textContent).then(() => {
        button.textContent = button.dataset.ckCopied;
    });
});
}
