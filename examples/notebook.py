# %% [markdown]
# # From transactions to a model, in a notebook
# Cells of a notebook (`# %%`) for Jupyter (jupytext), VS Code and PyCharm; Python runs it too.
# Everything is in memory. Put a data frame of your own in the place of the simulated one, and a
# schema of its columns in the place of "handbook".

# %%
import beam_fraud as bf
from beam_fraud.simulate.simulation import Simulation, simulate

transactions = simulate(Simulation(days=50, accounts=60, merchants=60)).to_pandas()
cut = transactions["TX_DATETIME"].quantile(0.8)
before = transactions[transactions["TX_DATETIME"] < cut]
today = transactions[transactions["TX_DATETIME"] >= cut]

# %% [markdown]
# ## What is in them

# %%
exploration = bf.explore(before, schema="handbook")
print(f"{exploration.balance.frauds} frauds among {exploration.balance.rows} transactions")
for advice in exploration.advice:
    print(f"{advice.topic}: {advice.text}")

# %% [markdown]
# ## A model
# The last fifth of the rows chooses the threshold; then the model is fitted again on all of them.

# %%
model = bf.train(before, schema="handbook", settings={"trees": 60}, threshold="f1")
print(model.model_id)

# %% [markdown]
# ## Its scores
# Windows look back 37 days: `history` fills them. The result has the index of `today`.

# %%
scored = bf.score(today, model, history=before)
worst = scored.sort_values("score", ascending=False).head(5)
print(worst[["transaction_id", "score", "decision"]])
for reason in worst.iloc[0]["reasons"] if worst.iloc[0]["flagged"] else []:
    print("-", reason["text"])

# %% [markdown]
# ## What they are worth

# %%
figures = bf.evaluate(today, model, history=before, resamples=200)
print(f"average precision {figures.metrics.average_precision:.3f}")

# %% [markdown]
# ## Keep it
# `model.save("bundle")` writes what `beam-fraud score --model bundle`, `beam-fraud stream` and
# `beam_fraud.Score` take.
