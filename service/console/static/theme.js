// Before the first paint: the theme that was chosen, if one was; otherwise the system's. A preference, and all that is kept in this browser.
(() => {
  const root = document.documentElement;
  const kept = localStorage.getItem('palimpsest-theme');
  if (kept === 'light' || kept === 'dark') root.dataset.theme = kept;
})();
