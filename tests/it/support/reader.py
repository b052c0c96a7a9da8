"""Reads what Perennial wrote with stock software, without Perennial.

    reader.py duckdb VIEWS.sql OUT            the view `samples` of DuckDB
    reader.py query VIEWS.sql SQL OUT         the rows of a query, as JSON lists of texts
    reader.py lists FILE.parquet OUT          the rows of a file as pyarrow reads them, as JSON objects of texts
    reader.py parquet BUCKET TENANT OUT       pyarrow over the files that the newest catalog version names
    reader.py mirror ENDPOINT BUCKET FOLDER   copies an S3 bucket into a folder

OUT of samples holds, per series: length and JSON of the labels, number of samples, times (ms), bits of the values; all little
endian. A NULL value is a stale marker.
"""

import array
import json
import pathlib
import struct
import sys

STALE = 0x7FF0000000000002


def write_series(out, labels, times, bits):
    name = json.dumps(labels, sort_keys=True).encode()
    out.write(struct.pack("<I", len(name)) + name + struct.pack("<I", len(times)))
    out.write(array.array("q", times).tobytes() + array.array("Q", bits).tobytes())


def value_bits(values):
    """Returns the bits of an Arrow array of doubles."""
    import pyarrow as pa

    nulls = values.is_null().to_pylist() if values.null_count else None
    bits = values.view(pa.uint64()).to_pylist() if not nulls else None
    if bits is None:
        buffer = memoryview(values.buffers()[1]).cast("Q")
        window = buffer[values.offset : values.offset + len(values)]
        bits = [STALE if null else b for null, b in zip(nulls, window)]
    return bits


def duckdb_samples(views, out):
    import duckdb

    con = duckdb.connect()
    con.execute(pathlib.Path(views).read_text())
    columns = [row[0] for row in con.execute("DESCRIBE samples").fetchall()]
    rest = "_labels_rest" in columns
    labels = [c for c in columns if c == "__name__" or not (c in ("ts", "value", "start_ts") or c.startswith("_"))]
    keys = ", ".join('"' + c.replace('"', '""') + '"' for c in labels + (["_labels_rest"] if rest else []))
    query = (
        f"SELECT {keys}, list(epoch_ms(ts) ORDER BY ts) AS t, list(value ORDER BY ts) AS v "
        f"FROM samples GROUP BY {keys}"
    )
    for batch in con.execute(query).to_arrow_reader(256):
        times, values = batch.column("t"), batch.column("v")
        names = [batch.column(i).to_pylist() for i in range(len(labels))]
        extra = batch.column("_labels_rest").to_pylist() if rest else None
        for i in range(batch.num_rows):
            pairs = {l: n[i] for l, n in zip(labels, names) if n[i] is not None}
            pairs.update(extra[i] or [] if rest else [])
            write_series(out, pairs, times[i].values.to_pylist(), value_bits(values[i].values))


def duckdb_rows(views, query, out):
    import duckdb

    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    con.execute(pathlib.Path(views).read_text())
    rows = con.execute(query).fetchall()
    out.write(json.dumps([[str(cell) for cell in row] for row in rows]).encode())


def file_rows(file, out):
    import pyarrow.parquet as pq

    rows = pq.read_table(file).to_pylist()
    out.write(json.dumps([{name: str(cell) for name, cell in row.items()} for row in rows]).encode())


def newest_version(catalog):
    import pyarrow as pa

    versions = [f for f in catalog.iterdir() if f.name.isdigit()]
    newest = max(versions, key=lambda f: int(f.name))
    return json.loads(pa.CompressedInputStream(pa.OSFile(str(newest)), "zstd").read())


def row_samples(row, i):
    """Returns times and bits of one row: scaled integers where they are, else doubles."""
    times = row["_ts"][i].values.cast("int64").to_pylist()
    scaled = row["_scaled"][i]
    if scaled.is_valid:
        power = float("1e%d" % row["_scale"][i].as_py())
        values = [None if v is None else v / power for v in scaled.values.to_pylist()]
        bits = [STALE if v is None else struct.unpack("<Q", struct.pack("<d", v))[0] for v in values]
    else:
        bits = value_bits(row["_values"][i].values)
    return times, bits


def parquet_samples(bucket, tenant, out):
    import pyarrow.parquet as pq

    root = pathlib.Path(bucket) / "tenants" / tenant
    series = {}
    for block in newest_version(root / "catalog")["blocks"]:
        if block["kind"] != "samples":
            continue
        file = pq.ParquetFile(root / "blocks" / f"{block['id']}.parquet")
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            columns = {n: table.column(n).combine_chunks() for n in table.column_names}
            labels = {n: c.to_pylist() for n, c in columns.items() if n == "__name__" or not n.startswith("_")}
            rest = columns["_labels_rest"].to_pylist() if "_labels_rest" in columns else None
            for i in range(table.num_rows):
                pairs = {n: c[i] for n, c in labels.items() if c[i] is not None}
                pairs.update((rest[i] or []) if rest else [])
                times, bits = row_samples(columns, i)
                held = series.setdefault(tuple(sorted(pairs.items())), ([], []))
                held[0].extend(times)
                held[1].extend(bits)
    for pairs, (times, bits) in series.items():
        order = sorted(range(len(times)), key=times.__getitem__)
        write_series(out, dict(pairs), [times[i] for i in order], [bits[i] for i in order])


def mirror(endpoint, bucket, folder):
    import boto3

    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=f"http://{endpoint}", **keys)
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for item in page.get("Contents", []):
            path = pathlib.Path(folder) / item["Key"]
            path.parent.mkdir(parents=True, exist_ok=True)
            client.download_file(bucket, item["Key"], str(path))


def main(mode, *arguments):
    if mode == "mirror":
        mirror(*arguments)
        return
    readers = {
        "duckdb": duckdb_samples,
        "query": duckdb_rows,
        "lists": file_rows,
        "parquet": parquet_samples,
    }
    with open(arguments[-1], "wb") as out:
        readers[mode](*arguments[:-1], out)


main(*sys.argv[1:])
