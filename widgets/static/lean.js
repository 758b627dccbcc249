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

export default () => {
  let inner;
  return {
    async initialize(context) {
      globalThis[KEY] ??= load(context.model);
      inner = (await globalThis[KEY]).default();
      return inner.initialize(context);
    },
    async render(context) {
      const cleanUp = await inner.render(context);
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
