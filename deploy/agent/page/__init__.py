"""The page of a node: what runs on it, with pictures, and what can be done to it from a browser.

``page_app`` makes the web application; what it shows comes from the agent (deploy/agent/service.py). Who may look and
who may change things is decided in one place, guard.py, before any handler runs.
"""

from deploy.agent.page.app import page_app

__all__ = ["page_app"]
