// Loads plotly's widget code from the hub model once per page, then hands everything to it.
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
    render: (context) => inner.render(context),
  };
};
