// Invisible: gives the panel's controls names a screen reader can say, and tells Python whether the page is dark.
const isDark = () => {
  const lab = document.body.dataset.jpThemeLight;
  return lab === undefined ? matchMedia("(prefers-color-scheme: dark)").matches : lab === "false";
};

function name(root) {
  for (const box of root.querySelectorAll(".widget-inline-hbox, .widget-hbox .jupyter-widgets")) {
    const label = box.querySelector(".widget-label")?.textContent;
    if (!label) continue;
    for (const control of box.querySelectorAll("input, select, .noUi-handle")) {
      if (control.getAttribute("aria-label") !== label) control.setAttribute("aria-label", label);
    }
  }
  for (const bar of root.querySelectorAll(".widget-hprogress .progress")) bar.setAttribute("aria-hidden", "true"); // the text beside it says it
  for (const list of root.querySelectorAll("select")) list.setAttribute("data-lm-suppress-shortcuts", "true"); // JupyterLab would take the arrow keys
  for (const line of root.querySelectorAll(".mk-say")) line.setAttribute("aria-live", "polite");
  for (const line of root.querySelectorAll(".mk-problem")) line.setAttribute("role", "alert");
}

function render({ model, el }) {
  const root = () => el.closest(".mk-panel");
  const report = () => { if (model.get("dark") !== isDark()) { model.set("dark", isDark()); model.save_changes(); } };
  const names = new MutationObserver(() => root() && name(root())), theme = new MutationObserver(report);
  theme.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
  const start = requestAnimationFrame(() => {
    if (!root()) return;
    name(root());
    names.observe(root(), { childList: true, subtree: true });
  });
  report();
  return () => { cancelAnimationFrame(start); names.disconnect(); theme.disconnect(); };
}
export default { render };
