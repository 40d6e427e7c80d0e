"""Take the picture of the demo that the README shows.

python tools/picture.py           # with the data of the demo, into docs/pictures/atlas.png

The real application with all of its places, in a database that is thrown away, seen by the
Chromium of the tests. Run it when the pages of the atlas look different.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from pathlib import Path

from werkzeug.serving import make_server

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "pictures" / "atlas.png"
SIZE = (1040, 720)


def main() -> None:
    """Load the atlas, serve it, and take the picture of its first page."""
    sys.path[:0] = [str(ROOT), str(ROOT / "examples" / "atlas")]
    from atlas import create_app
    from atlas.cli import ensure_loaded
    from atlas.extensions import db

    from tests.support.browser import launch

    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/atlas.db"
        app = create_app(
            {"SQLALCHEMY_DATABASE_URI": url, "SECRET_KEY": "picture"}, instance_path=folder
        )
        with app.app_context():
            ensure_loaded()
        server = make_server("127.0.0.1", 0, app, threaded=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with launch() as browser:
                width, height = SIZE
                page = browser.new_page(viewport={"width": width, "height": height})
                page.goto(f"http://127.0.0.1:{server.port}/?name__icontains=spring&country=US")
                PICTURE.parent.mkdir(exist_ok=True)
                page.screenshot(path=PICTURE)
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
        with app.app_context():
            db.engine.dispose()
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
