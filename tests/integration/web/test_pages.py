"""The pages through the application: each answers for a visitor of Superset, and unknown ones are not found."""

from __future__ import annotations

import pytest

from tests.integration.web.conftest import Visit

def test_probe(admin: Visit, done) -> None:
    import time
    from tests.conftest import sql
    print(sql(done.warehouse, "select origin, fl_date, direction from flights.anomaly_reasons limit 5"))
    print(sql(done.warehouse, "select * from flights.events limit 5"))
    for path in ["/flights/", "/flights/2015/", "/flights/airports/","/flights/airports/EWR/2015-02-08/", "/flights/events/20150208-JFK/"]:
        t=time.time()
        a = admin.get(path)
        print(path, a.status_code, len(a.text), round(time.time()-t,3), a.text[:200] if a.status_code!=200 or 'api' in path else '')
    assert 0
