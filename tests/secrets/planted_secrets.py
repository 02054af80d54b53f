"""Made-up secrets of every known form, and the ways in which notebooks hold them. Nothing here is or was real.

The values are made from a seed when a test runs, so that no scanner takes this file for a leak.
"""

import base64
import json
import random
import string
import uuid

LETTERS = string.ascii_letters
DIGITS = string.digits
WORD = LETTERS + DIGITS
URL64 = WORD + "-_"
BASE64 = WORD + "+/"
HEX = "0123456789abcdef"
CAPITALS = string.ascii_uppercase + DIGITS


def noise(chance: random.Random, signs: str, length: int) -> str:
    """A random text."""
    return "".join(chance.choices(signs, k=length))


def _of(begin: str, signs: str, length: int, end: str = ""):
    return lambda chance: begin + noise(chance, signs, length) + end


def _jwt(chance: random.Random) -> str:
    parts = ({"alg": "HS256", "typ": "JWT"}, {"sub": noise(chance, DIGITS, 10), "iat": 1516239022})
    packed = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*packed, noise(chance, URL64, 43)])


def _basic(chance: random.Random) -> str:
    return base64.b64encode(f"ada:{noise(chance, WORD, 14)}".encode()).decode()


def _pem(_: random.Random) -> str:
    return "-----BEGIN RSA " + "PRIVATE KEY-----"


# Kind, as it is told → how a value of it is made. Several of one kind are told apart by what stands behind the colon.
FORMS = {
    "a Kaggle token": _of("KGAT_", HEX, 32),
    "a Hugging Face token": _of("hf_", WORD, 34),
    "an Anthropic key": _of("sk-ant-api03-", URL64, 93, "AA"),
    "an OpenAI key": _of("sk-", WORD, 48),
    "an OpenAI key:project": _of("sk-proj-", URL64, 120),
    "an OpenAI key:router": _of("sk-or-v1-", HEX, 64),
    "an AWS key": _of("AKIA", CAPITALS, 16),
    "an AWS key:session": _of("ASIA", CAPITALS, 16),
    "a GitHub token": _of("ghp_", WORD, 36),
    "a GitHub token:user": _of("ghu_", WORD, 36),
    "a GitHub token:refresh": _of("ghr_", WORD, 76),
    "a GitHub token:fine": _of("github_pat_", WORD, 82),
    "a GitLab token": _of("glpat-", URL64, 20),
    "a GitLab token:runner": _of("glrt-", URL64, 20),
    "a PyPI token": _of("pypi-AgEIcHlwaS5vcmc", URL64, 150),
    "an npm token": _of("npm_", WORD, 36),
    "a Stripe key": _of("sk_live_", WORD, 24),
    "a Stripe key:restricted": _of("rk_test_", WORD, 24),
    "a Stripe key:webhook": _of("whsec_", WORD, 32),
    "a Slack token": lambda c: f"xoxb-{noise(c, DIGITS, 12)}-{noise(c, DIGITS, 12)}-{noise(c, WORD, 24)}",
    "a Slack webhook": lambda c: (
        f"https://hooks.slack.com/services/T{noise(c, CAPITALS, 8)}/B{noise(c, CAPITALS, 8)}/" + noise(c, WORD, 24)
    ),
    "a Discord webhook": lambda c: f"https://discord.com/api/webhooks/{noise(c, DIGITS, 18)}/{noise(c, URL64, 68)}",
    "a Discord token": lambda c: f"MT{noise(c, WORD, 22)}.{noise(c, WORD, 6)}.{noise(c, WORD, 27)}",
    "a Telegram token": lambda c: f"{noise(c, '123456789', 10)}:AA{noise(c, URL64, 33)}",
    "a Groq key": _of("gsk_", WORD, 52),
    "a Replicate token": _of("r8_", WORD, 37),
    "an xAI key": _of("xai-", WORD, 80),
    "a Perplexity key": _of("pplx-", WORD, 48),
    "an NVIDIA key": _of("nvapi-", URL64, 64),
    "a Tavily key": _of("tvly-", WORD, 32),
    "a LangSmith key": lambda c: f"lsv2_pt_{noise(c, HEX, 32)}_{noise(c, HEX, 10)}",
    "a Pinecone key": _of("pcsk_", WORD, 70),
    "a Fireworks key": _of("fw_", WORD, 24),
    "a Weights & Biases key": _of("wandb_v1_", WORD, 77),
    "a Google key": _of("AIza", URL64, 34, "A"),
    "a Google key:client": _of("GOCSPX-", URL64, 28),
    "a Google key:access": _of("ya29.", URL64, 120),
    "a Mailgun key": _of("key-", HEX, 32),
    "a Mailchimp key": _of("", HEX, 32, "-us21"),
    "a DigitalOcean token": _of("dop_v1_", HEX, 64),
    "a Heroku key": _of("HRKU-", URL64, 60),
    "a Linear key": _of("lin_api_", WORD, 40),
    "a Notion token": _of("ntn_", WORD, 46),
    "a Notion token:old": _of("secret_", WORD, 43),
    "a Sentry DSN": lambda c: f"https://{noise(c, HEX, 32)}@o{noise(c, DIGITS, 6)}.ingest.sentry.io/4505",
    "a Sentry token": _of("sntryu_", HEX, 64),
    "a Databricks token": _of("dapi", HEX, 32),
    "a Twilio key": _of("SK", HEX, 32),
    "a SendGrid key": lambda c: f"SG.{noise(c, URL64, 22)}.{noise(c, URL64, 43)}",
    "a Docker token": _of("dckr_pat_", URL64, 27),
    "a Shopify token": _of("shpat_", HEX, 32),
    "a Grafana token": lambda c: f"glsa_{noise(c, WORD, 32)}_{noise(c, HEX, 8)}",
    "a Supabase token": _of("sbp_", HEX, 40),
    "a Postman key": lambda c: f"PMAK-{noise(c, HEX, 24)}-{noise(c, HEX, 34)}",
    "a Vault token": _of("hvs.", URL64, 90),
    "an age key": _of("AGE-SECRET-KEY-1", CAPITALS, 58),
    "an Azure key": lambda c: f"AccountName=ada;AccountKey={noise(c, BASE64, 86)}==;EndpointSuffix=core.windows.net",
    "an Azure key:bus": lambda c: f"SharedAccessKeyName=root;SharedAccessKey={noise(c, BASE64, 43)}=",
    "an Azure key:signature": lambda c: (
        f"https://ada.blob.core.windows.net/x?sv=2022-11-02&sig={noise(c, WORD, 43)}%3D"
    ),
    "an Azure key:client": lambda c: f"{noise(c, WORD, 3)}8Q~{noise(c, WORD, 34)}",
    "a JSON web token": _jwt,
    "a login in a header": lambda c: f"Authorization: Basic {_basic(c)}",
    "a token in a header": lambda c: f"Authorization: Bearer {noise(c, WORD, 32)}",
    "a password in an address": lambda c: f"postgresql://ada:{noise(c, WORD, 12)}@db.host.net:5432/x",
    "a password in an address:mongo": lambda c: f"mongodb+srv://ada:{noise(c, WORD, 12)}@c0.ab1.mongodb.net/x",
    "a password in an address:git": lambda c: f"https://oauth2:{noise(c, WORD, 20)}@gitlab.host.net/x/y.git",
    "a password in an address:redis": lambda c: f"redis://:{noise(c, WORD, 16)}@10.0.0.7:6379/0",
    "a private key": _pem,
    "a password of .netrc": lambda c: f"machine api.host.net login ada password {noise(c, WORD, 12)}",
    "a password of a command": lambda c: f"curl -s -u ada:{noise(c, WORD, 12)} https://host.net/x",
}
# Known by their name alone: what the name must say, and how a value is made.
NAMED = {
    "WANDB_API_KEY": _of("", HEX, 40),
    "KAGGLE_KEY": _of("", HEX, 32),
    "COHERE_API_KEY": _of("", WORD, 40),
    "MISTRAL_API_KEY": _of("", string.ascii_lowercase + DIGITS, 32),
    "AWS_SECRET_ACCESS_KEY": _of("", BASE64, 40),
    "TWILIO_AUTH_TOKEN": _of("", HEX, 32),
    "AZURE_OPENAI_API_KEY": _of("", HEX, 32),
    "HEROKU_API_KEY": lambda chance: str(uuid.UUID(int=chance.getrandbits(128), version=4)),
    "MY_SECRET": _of("", WORD, 24),
    "client_secret": _of("", URL64, 32),
    "myApiKey": _of("", WORD, 24),
    "hf-token": _of("", WORD, 28),
    "api_token_2": _of("", WORD, 32),
    "db_password": lambda chance: f"{noise(chance, WORD, 6)}7{noise(chance, '!%+', 1)}{noise(chance, LETTERS, 4)}4z",
}
# How NAME and VALUE stand together.
SYNTAXES = {
    "subscript": 'os.environ["NAME"] = "VALUE"',
    "subscript, single quotes": "os.environ['NAME'] = 'VALUE'",
    "assignment": 'config.NAME = "VALUE"',
    "bytes": "NAME = b'VALUE'",
    "raw text": 'NAME = r"VALUE"',
    "three quotes": 'NAME = """VALUE"""',
    "annotation": 'NAME: str = "VALUE"',
    "annotation with brackets": 'NAME: Final[Optional[str]] = "VALUE"',
    "annotation with a bar": 'NAME: str | None = "VALUE"',
    "walrus": 'if (NAME := "VALUE"): pass',
    "setdefault": 'os.environ.setdefault("NAME", "VALUE")',
    "setdefault over lines": 'os.environ.setdefault(\n    "NAME",\n    "VALUE",\n)',
    "default of a look-up": 'x = os.environ.get("NAME", "VALUE")',
    "or": 'x = os.environ.get("NAME") or "VALUE"',
    "keyword": 'login(NAME="VALUE")',
    "keyword over lines": 'client = Client(\n    url,\n    NAME="VALUE",\n    timeout=3,\n)',
    "argument": 'set_NAME("VALUE")',
    "wrapped": 'NAME = SecretStr("VALUE")',
    "in brackets": 'NAME = (\n    "VALUE"\n)',
    "continued": 'NAME = \\\n    "VALUE"',
    "dict": 'config = {"user": "ada", "NAME": "VALUE", "port": 1}',
    "dict over lines": 'config = {\n    "NAME": "VALUE",\n}',
    "dict of a keyword": 'config = dict(user="ada", NAME="VALUE")',
    "pair": 'pairs = [("NAME", "VALUE")]',
    "tuple": 'user, NAME = "ada", "VALUE"',
    "chain": 'os.environ["X"] = os.environ["NAME"] = "VALUE"',
    "list": 'NAME = ["VALUE"]',
    "default of a function": 'def f(x, NAME="VALUE"): ...',
    "default of a typed function": 'def f(x: int, NAME: str = "VALUE") -> None: ...',
    "comparison": 'assert NAME == "VALUE"',
    "option": 'p.add_argument("--NAME", type=str, default="VALUE")',
    "comment": "# NAME: VALUE",
    "setattr": 'setattr(settings, "NAME", "VALUE")',
    "update": 'os.environ.update({"NAME": "VALUE"})',
    "shell export": "!export NAME=VALUE",
    "shell export, quoted": '!export NAME="VALUE" && run',
    "shell option": "!tool --NAME VALUE --fast",
    "shell option with =": "!tool --NAME=VALUE",
    "magic": "%env NAME=VALUE",
    "magic with a space": "%env NAME VALUE",
    "dotenv": "A=1\nNAME=VALUE\nB=2",
    "YAML": "a:\n  NAME: VALUE\n  b: 1",
    "YAML, quoted": "NAME: 'VALUE'",
    "YAML list": "env:\n  - name: NAME\n    value: VALUE",
    "TOML": '[a]\nNAME = "VALUE"',
    "JSON": '{"a": 1, "NAME": "VALUE"}',
    "JSON name and value": '{"name": "NAME", "value": "VALUE"}',
    "JSON in a text": '"{\\"NAME\\": \\"VALUE\\"}"',
    "header": 'curl -H "NAME: VALUE" https://host.net',
    "Markdown": "The **NAME**: `VALUE`",
    "table": "| NAME | VALUE |",
    "arrow": "NAME -> VALUE",
    "hash rocket": ":NAME => 'VALUE'",
}
# A password is short, and a UUID is mostly none: they are told where nothing but signs stands between.
NOT_FOR = {
    "db_password": {"shell option", "magic with a space", "tuple"},
    "HEROKU_API_KEY": {"tuple"},
}
FRAMES = (
    "{}",
    "x = '{}'",
    'print("{}")',
    "# {}",
    "!run {} --fast",
    "a\n\n  {}\n",
    "see <{}>, and go on",
    "f(1, '{}', b=2)",
)


def filled(syntax: str, name: str, value: str) -> str:
    """A line of a notebook that holds `value` under `name`."""
    return syntax.replace("NAME", name).replace("VALUE", value)
