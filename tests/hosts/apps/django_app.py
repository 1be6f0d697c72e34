"""Django under ASGI and WSGI, with its admin, sessions, CSRF, conditional GET and, in one of the ways, gzip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.contrib import admin
from django.core.asgi import get_asgi_application
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.db import connections
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse, StreamingHttpResponse
from django.middleware.csrf import get_token
from django.test.utils import override_settings
from django.urls import path, re_path
from django.views.static import serve

from consentkit import consent_of
from tests.hosts import content

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.http.ConditionalGetMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
USER, PASSWORD = "beheer", "geheim-genoeg-1"


def _configure(folder: Path) -> None:
    if settings.configured:
        return
    settings.configure(
        SECRET_KEY="k" * 50,
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        MIDDLEWARE=MIDDLEWARE,
        INSTALLED_APPS=[
            "django.contrib.admin",
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "django.contrib.messages",
        ],
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": [
                        "django.template.context_processors.request",
                        "django.contrib.auth.context_processors.auth",
                        "django.contrib.messages.context_processors.messages",
                    ]
                },
            }
        ],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": str(folder.parent / "django.sqlite3"),
            }
        },
        STATIC_URL="/admin-static/",
        LANGUAGE_CODE="nl",
        USE_TZ=True,
        LOGGING_CONFIG=None,
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    )
    django.setup()
    call_command("migrate", verbosity=0)
    from django.contrib.auth.models import User  # the models exist only from here on

    User.objects.create_superuser(USER, password=PASSWORD)
    connections.close_all()
    urlpatterns.append(path("admin/", admin.site.urls))


def home(request: HttpRequest) -> HttpResponse:
    return HttpResponse(content.HOME)


async def stream(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(content.stream())


def stream_sync(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(content.stream_sync())


def data(request: HttpRequest) -> HttpResponse:
    response = JsonResponse({"ok": True})
    response.set_cookie(content.TRACKER_COOKIE, "1")
    response.set_cookie(content.OWN_COOKIE, "1")
    return response


def download(request: HttpRequest) -> HttpResponse:
    return HttpResponse(content.HOME, headers={"Content-Disposition": 'attachment; filename="x.html"'})


async def consent(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"analytics": consent_of(request).allows("analytics")})


def form(request: HttpRequest) -> HttpResponse:
    if request.method == "POST":
        return HttpResponseRedirect(f"/?naam={request.POST['naam']}")
    hidden = f'<input type="hidden" name="csrfmiddlewaretoken" value="{get_token(request)}">'
    return HttpResponse(content.form(hidden))


def fragment(request: HttpRequest) -> HttpResponse:
    return HttpResponse(content.FRAGMENT)


async def events(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(content.events(), content_type="text/event-stream")


def boom(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("boom")


def missing(request: HttpRequest, exception: Exception) -> HttpResponse:
    return HttpResponse(content.MISSING, status=404)


def broken(request: HttpRequest) -> HttpResponse:
    return HttpResponse(content.BROKEN, status=500)


static_folder: list[Path] = []


def static(request: HttpRequest, name: str) -> Any:
    return serve(request, name, document_root=str(static_folder[0]))


handler404 = missing
handler500 = broken
urlpatterns = [
    path("", home),
    path("stream", stream),
    path("json", data),
    path("download", download),
    path("consent", consent),
    path("form", form),
    path("fragment", fragment),
    path("events", events),
    path("boom", boom),
    re_path(r"^static/(?P<name>.*)$", static),
]


def _gzipped() -> Any:
    with override_settings(MIDDLEWARE=["django.middleware.gzip.GZipMiddleware", *MIDDLEWARE]):
        return get_asgi_application()


def build(folder: Path) -> content.Host:
    _configure(folder)
    static_folder[:] = [folder]
    return content.Host(
        app=get_asgi_application(),
        ways={
            "wrap": lambda kit: kit.wrap(get_asgi_application()),
            "wrap around gzip": lambda kit: kit.wrap(_gzipped()),
            "wrap_wsgi": lambda kit: kit.wrap_wsgi(get_wsgi_application()),
        },
        websocket=False,
        ranges=False,
        conditional=False,
    )
