"""The page at ``/``: a chat in the browser, and what the engine is doing.

The application includes ``page_routes()`` and answers ``PAGE_PATHS`` without a key: the page asks for it, and sends it
with everything else. Its gauges come from ``/metrics``.
"""

from kvscape.serve.page.routes import PAGE_PATHS, page_routes

__all__ = ["PAGE_PATHS", "page_routes"]
