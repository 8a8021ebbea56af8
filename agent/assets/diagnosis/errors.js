// Before everything else: what goes wrong is counted where a test, or a reader of the source, finds it.

const root = document.documentElement;

function complain(message) {
  root.dataset.errors = String(Number(root.dataset.errors) + 1);
  root.dataset.firstError ??= String(message).slice(0, 500);
}

window.addEventListener('error', (event) => complain(event.message));
window.addEventListener('unhandledrejection', (event) => complain(event.reason));
