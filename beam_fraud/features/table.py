"""Features as a table for whoever wants just those: one column a feature."""

from __future__ import annotations

import pyarrow as pa

from beam_fraud.features.matrix import FeatureSet, numeric_feature


def table_schema(features: FeatureSet) -> pa.Schema:
    """Columns of the table: `transaction_id`, then float64 a feature, categories as strings."""
    categorical = {features.names[place] for place in features.categorical}
    return pa.schema(
        [
            pa.field("transaction_id", pa.string(), nullable=False),
            *(
                pa.field(name, pa.string() if name in categorical else pa.float64())
                for name in features.names
            ),
        ]
    )


def feature_table(transactions: pa.RecordBatch, features: FeatureSet) -> pa.RecordBatch:
    """The ids and features of n transactions.

    Args:
      transactions: n rows as `Schema.transactions` describes them, with velocity features.
      features: which features, in which order.

    Returns:
      n rows as `table_schema` describes them; NaN or null where a value is absent. Categories are
      as they came: only a model knows codes for them.
    """
    described = table_schema(features)
    columns = [transactions.column("transaction_id")]
    for field in list(described)[1:]:
        if pa.types.is_string(field.type):
            columns.append(transactions.column(field.name))
        else:
            columns.append(pa.array(numeric_feature(transactions, field.name, features)))
    return pa.RecordBatch.from_arrays(columns, schema=described)
