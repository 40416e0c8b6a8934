"""Read the result of a query into a DataFrame with COPY, without loss; fetching row by row is too slow."""

from __future__ import annotations

import io

import pandas as pd
import pyarrow as pa
import pyarrow.csv
from psycopg2.sql import SQL, Composable

from utils.warehouse.connection import Postgres


def read_frame(server: Postgres, doing: str, schema: pa.Schema, query: Composable) -> pd.DataFrame:
    """Return the rows of `query`. Its columns are those of `schema` in order; dates are datetime64, JSON is text."""
    text = io.BytesIO()
    with server.transaction(doing) as cursor:
        cursor.copy_expert(SQL("COPY ({}) TO STDOUT (FORMAT csv)").format(query), text)
    text.seek(0)
    if not text.getbuffer().nbytes:
        empty: pd.DataFrame = schema.empty_table().to_pandas(date_as_object=False)
        return empty
    rows: pd.DataFrame = pyarrow.csv.read_csv(
        text,
        pyarrow.csv.ReadOptions(column_names=schema.names),
        pyarrow.csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        pyarrow.csv.ConvertOptions(
            column_types=schema,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            true_values=["t"],
            false_values=["f"],
        ),
    ).to_pandas(date_as_object=False)
    return rows
