import scalelib

# 500 rendered pictures, each object of known scale; a small CNN that ships trained
scenes = scalelib.load_dataset("scenes", n=500)
net = scalelib.load_network("control")

# every layer in one pass: {"conv1": array of shape (500, 16), ...}
acts = scalelib.extract(net, scenes.images)
# how well scale can be read from each, on pictures that were held out
table = scalelib.layerwise_r2(acts, scenes.table.sqrt_area_ratio)

summary = scalelib.summarize(table).query("condition == 'true'")
print(summary[["tap", "mean", "low", "high"]].round(2).to_string(index=False))

best = scalelib.best_layer(table)
small = scalelib.prune(net, at=best, outputs=1)
kept = small.count_params() / net.model.count_params()
print(f"Cut at {best}: {kept:.0%} of the parameters are kept.")

axes = summary.plot("tap", "mean", marker="o", rot=45, legend=False)
axes.set(xlabel="layer, from input to output", ylabel="held-out R²")
axes.fill_between(range(len(summary)), summary.low, summary.high, alpha=0.2)
axes.figure.savefig("r2_by_layer.svg", bbox_inches="tight")
