"""A hospital's PostgreSQL: MIMIC's demo as OMOP, and what a database can be hostile with.

The server is the test's own; the tests are skipped where PostgreSQL is not installed.
"""

import traceback
import tracemalloc

import numpy as np
import pandas as pd
import psycopg
import pytest
import sqlalchemy as sa
from tests.support import omop_from_mimic
from tests.support.omop_questions import by_pandas, form
from tests.support.postgres import OWNER, PASSWORD, READER, cluster, url

from wardround.errors import BadInput
from wardround.study.files import checked
from wardround_client.data.database import opened
from wardround_client.data.omop_source import OmopSource
from wardround_client.data.omop_table import read_omop
from wardround_client.data.sql_source import SqlSource
from wardround_client.data.sql_table import read_sql
from wardround_client.data.table_source import Asked

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

SECRET = "Meier-9173"
URL = "WARD_URL"
WARD = f"""
CREATE TABLE ward (id text, age double precision, cents numeric, came timestamptz, yes boolean,
    day date, key uuid);
INSERT INTO ward VALUES ('p1', 40, 1.50, '2150-03-01 10:00+02', true, '2150-03-01',
    '12345678-1234-5678-1234-567812345678'), ('p2', NULL, NULL, NULL, NULL, NULL, NULL);
CREATE TABLE other_ward (x int);
CREATE FUNCTION breaks(n int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN
    IF n > 5000 THEN RAISE EXCEPTION 'patient {SECRET}'; END IF; RETURN n; END $$;
CREATE VIEW breaking AS SELECT breaks(n) AS v FROM generate_series(1, 9000) n;
CREATE VIEW mistyped AS SELECT CASE WHEN n > 5000 THEN ('{SECRET}' || n)::int ELSE n END AS v
    FROM generate_series(1, 9000) n;
CREATE ROLE {READER} LOGIN PASSWORD '{PASSWORD}';
GRANT SELECT ON ward, breaking, mistyped TO {READER};
CREATE SCHEMA cdm;
"""


@pytest.fixture(scope="module")
def server():
    with cluster() as folder:
        with psycopg.connect(url(folder, OWNER), autocommit=True) as connection:
            connection.execute(WARD)
        engine = sa.create_engine(url(folder, OWNER).replace("postgresql", "postgresql+psycopg"))
        omop_from_mimic.load(engine, "cdm", every_lab=True)
        engine.dispose()
        with psycopg.connect(url(folder, OWNER), autocommit=True) as connection:
            connection.execute(f"GRANT USAGE ON SCHEMA cdm TO {READER}")
            connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA cdm TO {READER}")
        yield folder


@pytest.fixture
def ward(server, tmp_path, monkeypatch):
    monkeypatch.setenv(URL, url(server))
    return tmp_path


def read(folder, query, **bounds):
    (folder / "ward.sql").write_text(query)
    asked = Asked(folder=folder, path="ward.sql", columns=frozenset())
    source = SqlSource(url_variable=URL, **bounds)
    with opened(source, folder) as connection:
        return read_sql(connection, source, asked)


def why(folder, query, **bounds):
    with pytest.raises(BadInput) as caught:
        read(folder, query, **bounds)
    printed = "".join(traceback.format_exception(caught.value))
    assert SECRET not in printed
    assert PASSWORD not in printed
    return str(caught.value)


def test_omop_of_the_whole_demo_is_what_pandas_finds_and_what_sqlite_gives(ward, tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path}/mercy.sqlite")
    omop_from_mimic.load(engine, every_lab=True)
    engine.dispose()
    found = {}
    for schema, source in (
        ("cdm", SqlSource(url_variable=URL)),
        (None, SqlSource(database="mercy.sqlite")),
    ):
        omop = checked(OmopSource, form(schema), what="omop")
        names = frozenset(column.name for column in omop.columns)
        asked = Asked(folder=tmp_path, path="omop", columns=names)
        with opened(source, tmp_path) as connection:
            found[schema] = read_omop(connection, omop, source, asked)
    pd.testing.assert_frame_equal(found["cdm"], found[None])
    expected = by_pandas()
    for name in expected:
        own = pd.to_numeric(found["cdm"][name].replace("", np.nan)).to_numpy(dtype=np.float64)
        np.testing.assert_allclose(own, expected[name].astype(np.float64), err_msg=name)


def test_every_type_becomes_the_text_of_an_export(ward):
    query = "SELECT *, '10:30 %s :age' AS free FROM ward ORDER BY id;"
    assert read(ward, query).to_dict("list") == {
        "id": ["p1", "p2"],
        "age": ["40.0", ""],
        "cents": ["1.50", ""],
        "came": ["2150-03-01 08:00:00+00:00", ""],
        "yes": ["1", ""],
        "day": ["2150-03-01", ""],
        "key": ["12345678-1234-5678-1234-567812345678", ""],
        "free": ["10:30 %s :age"] * 2,
    }


CHANGES = (
    "DELETE FROM ward",
    "WITH gone AS (DELETE FROM ward RETURNING id) SELECT * FROM gone",
    "SELECT * INTO copied FROM ward",
    "SELECT 1; COMMIT; DELETE FROM ward",
    "SELECT nextval('counter')",
    "SELECT setval('counter', 9)",
    "SELECT id FROM ward FOR UPDATE",
)


@pytest.mark.parametrize("query", CHANGES)
def test_not_even_the_owner_changes_anything(server, ward, monkeypatch, query):
    monkeypatch.setenv(URL, url(server, OWNER))
    with psycopg.connect(url(server, OWNER), autocommit=True) as connection:
        connection.execute("CREATE SEQUENCE IF NOT EXISTS counter")
        why(ward, query)
        count = connection.execute("SELECT count(*), (SELECT last_value FROM counter) FROM ward")
        assert count.fetchone() == (2, 1)


def test_what_a_function_wrote_all_the_same_is_taken_back(server, ward, monkeypatch):
    """PostgreSQL before 16 makes a large object in a transaction that may only read."""
    monkeypatch.setenv(URL, url(server, OWNER))
    with psycopg.connect(url(server, OWNER), autocommit=True) as connection:
        if connection.info.server_version < 160_000:
            assert len(read(ward, "SELECT lo_create(0) AS made")) == 1
        count = connection.execute("SELECT count(*) FROM pg_largeobject_metadata")
        assert count.fetchone() == (0,)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT * FROM other_ward", "permission denied for table other_ward"),
        ("SELECT * FROM nowhere", 'relation "nowhere" does not exist'),
        ("SELECT weight FROM ward", 'column "weight" does not exist'),
        ("SELECT * FROM breaking", "the database refused (RaiseException, P0001)"),
        ("SELECT * FROM mistyped", "a value in it is not what the query takes it for"),
        (f"SELECT '{SECRET}'::int", "a value in it is not what the query takes it for"),
        ("SELECT * FROM ward WHERE", "no SQL that the database knows"),
        ("SELECT 'infinity'::date", "the database refused (DataError)"),
        ("SELECT ARRAY[1] AS a, '{}'::jsonb AS b", "column 'a': 1 values, column 'b': 1 values"),
        ("SELECT 1; SELECT 2", "more than one statement"),
    ],
)
def test_what_the_database_refuses_is_said_without_what_it_quotes(ward, query, said):
    assert said in why(ward, query)


def test_who_is_not_let_in_is_told_so_without_the_password(server, ward, monkeypatch):
    wrong = (
        url(server).replace(PASSWORD, f"{PASSWORD}-wrong"),
        url(server, database="nowhere"),
        url(server / "nowhere"),
        url(server, sslmode="verify-full", host="127.0.0.1", port="1"),
    )
    for one in wrong:
        monkeypatch.setenv(URL, one)
        assert "no connection" in why(ward, "SELECT 1")


def test_ten_million_rows_stream_to_the_bound_in_little_memory(ward):
    tracemalloc.start()
    said = why(ward, "SELECT n, n AS m FROM generate_series(1, 10000000) n", most_rows=50_000)
    assert said == "ward.sql: over 50000 rows"
    assert tracemalloc.get_traced_memory()[1] < 40_000_000
    tracemalloc.stop()


def test_a_query_that_takes_too_long_is_ended_by_the_server(server, ward):
    assert "took longer than `timeout_s`" in why(ward, "SELECT pg_sleep(30)", timeout_s=1)
    with psycopg.connect(url(server, OWNER)) as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE usename = %s AND state = 'active'"
        assert connection.execute(query, (READER,)).fetchone() == (0,)


def test_all_queries_of_a_reading_see_one_state_of_the_database(server, ward):
    count = "SELECT count(*) FROM ward"
    with opened(SqlSource(url_variable=URL), ward) as reading:
        before = reading.exec_driver_sql(count).scalar_one()
        with psycopg.connect(url(server, OWNER), autocommit=True) as connection:
            connection.execute("INSERT INTO ward (id) VALUES ('p3')")
            assert connection.execute(count).fetchone() == (before + 1,)
        assert reading.exec_driver_sql(count).scalar_one() == before
    with psycopg.connect(url(server, OWNER), autocommit=True) as connection:
        connection.execute("DELETE FROM ward WHERE id = 'p3'")
