// Loads plotly's widget code from the hub model once per page, then hands everything to it.
// A figure is drawn before it stands in the page, at plotly's own width: it is told once it has, or changes, its place.
const KEY = Symbol.for("mergekit_nb.plotly");

async function load(model) {
  const hub = await model.widget_manager.get_model(model.get("_hub_ref"));
  const url = URL.createObjectURL(new Blob([hub.get("source")], { type: "text/javascript" }));
  try {
    return await import(/* webpackIgnore: true */ url);
  } finally {
    URL.revokeObjectURL(url);
  }
}

// Data and layout follow in messages of their own: drawn before they came, the figure would stay empty.
function filled(model) {
  const here = () => model.get("_widget_data").length > 0 && Object.keys(model.get("_widget_layout")).length > 0;
  if (here()) return Promise.resolve();
  return new Promise((resolve) => {
    const look = () => {
      if (!here()) return;
      for (const trait of ["_widget_data", "_widget_layout"]) model.off(`change:${trait}`, look);
      resolve();
    };
    for (const trait of ["_widget_data", "_widget_layout"]) model.on(`change:${trait}`, look);
  });
}

export default () => {
  let inner;
  return {
    async initialize(context) {
      globalThis[KEY] ??= load(context.model);
      inner = (await globalThis[KEY]).default();
      return inner.initialize(context);
    },
    async render(context) {
      await filled(context.model);
      const cleanUp = await inner.render(context);
      context.model.set("_drawn", true);
      context.model.save_changes();
      let width = 0;
      const place = new ResizeObserver(([entry]) => {
        if (Math.abs(entry.contentRect.width - width) < 2) return;
        width = entry.contentRect.width;
        window.dispatchEvent(new Event("resize")); // what plotly's responsive figures listen to
      });
      place.observe(context.el);
      return () => { place.disconnect(); cleanUp?.(); };
    },
  };
};
