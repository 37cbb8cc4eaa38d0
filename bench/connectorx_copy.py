"""connectorx to Arrow in memory, by two connections, then one Delta table: connectorx_copy.py URL TABLE FOLDER"""

import sys
import time

import connectorx
import deltalake


def main():
    url, table, to = sys.argv[1:]
    start = time.monotonic()
    rows = connectorx.read_sql(
        url, f"SELECT * FROM {table}", return_type="arrow", partition_on="id", partition_num=2
    )
    deltalake.write_deltalake(to, rows)
    print("inside_s", time.monotonic() - start)


main()
