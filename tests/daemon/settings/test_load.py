from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import SecretStr

from daemon.settings import ClassSettings, Settings, load_settings
from engines.errors import UsageError


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("MILLWATCH_KAFKA__BOOTSTRAP", "MILLWATCH_KAFKA__SECURITY__PASSWORD"):
        monkeypatch.delenv(name, raising=False)


def written(folder: Path, text: str, name: str = "config.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def problems(config: Path | None = None, *overrides: str) -> list[str]:
    with pytest.raises(UsageError) as caught:
        load_settings(config, overrides)
    assert caught.value.exit_code == 2
    return str(caught.value).splitlines()


def test_every_source_wins_over_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().kafka.bootstrap == "127.0.0.1:9092"
    config = written(tmp_path, "kafka: {bootstrap: file:1, group: file}", "line.yaml")
    assert load_settings(config).kafka.bootstrap == "file:1"
    monkeypatch.setenv("MILLWATCH_KAFKA__BOOTSTRAP", "environment:1")
    assert load_settings(config).kafka.bootstrap == "environment:1"
    settings = load_settings(config, ["kafka.bootstrap=set:1", "kafka.bootstrap=set:2"])
    assert settings.kafka.bootstrap == "set:2"
    assert settings.kafka.group == "file"


def test_the_file_of_the_folder_is_taken_and_need_not_be_there(tmp_path: Path) -> None:
    assert load_settings().batch.max_frames == 4
    written(tmp_path, "batch: {max_frames: 7}")
    assert load_settings().batch.max_frames == 7


def test_a_named_file_must_be_there() -> None:
    assert problems(Path("nowhere.yaml")) == ["nowhere.yaml: no such configuration file"]


def test_relative_paths_start_at_the_files_folder(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    config = written(tmp_path / "etc", "cascade: ../cascades/ours\nengine:\n")
    settings = load_settings(config, ["kafka.security.ca_file=ca.pem", "kafka.security.cert_file=/abs/cert.pem"])
    assert settings.cascade == tmp_path / "etc/../cascades/ours"
    assert settings.engine.directory == tmp_path / "etc/engines/compiled"
    assert settings.kafka.security.ca_file == tmp_path / "etc/ca.pem"
    assert settings.kafka.security.cert_file == Path("/abs/cert.pem")
    assert load_settings().cascade == tmp_path / "cascades/reference"


def test_values_of_classes_merge_across_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = written(tmp_path, "classes: {3: {name: scratch, min_area_px: 20}}")
    monkeypatch.setenv("MILLWATCH_CLASSES__3__THRESHOLD", "0.25")
    assert load_settings(config, ["classes.3.min_area_px=30"]).classes == {
        3: ClassSettings(name="scratch", threshold=0.25, min_area_px=30)
    }


def test_null_takes_a_value_back(tmp_path: Path) -> None:
    config = written(tmp_path, "gate: {threshold: 0.5}")
    assert load_settings(config, ["gate.threshold=null"]).gate.threshold is None


def test_digits_stay_text_where_text_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLWATCH_KAFKA__SECURITY__PASSWORD", "0123")
    settings = load_settings(None, ["kafka.group=17"])
    assert settings.kafka.security.password == SecretStr("0123")
    assert settings.kafka.group == "17"


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("kafka.bootstrp=x", "kafka.bootstrp: no such key (its value is 'x'); did you mean kafka.bootstrap?"),
        ("bootstrap=x", "bootstrap: no such key (its value is 'x'); did you mean kafka.bootstrap?"),
        ("kafka.max_frames=3", "kafka.max_frames: no such key (its value is '3'); did you mean batch.max_frames?"),
        ("classes.3.nme=1", "classes.3.nme: no such key (its value is '1'); did you mean classes.3.name?"),
        ("batch.max_frames=0", "batch.max_frames: '0' should be greater than or equal to 1"),
        ("http.port=soon", "http.port: 'soon' should be a valid integer, unable to parse string as an integer"),
        ("kafka=broker:1", "kafka: 'broker:1' should be a section of keys"),
        ("cascade=null", "cascade: null should be a path"),
        ("gate.threshold=nan", "gate.threshold: 'nan' should be a finite number"),
        ("kafka.bootstrap=b", "kafka.bootstrap: 'b' should be host:port, or several of them separated by commas"),
        ("kafka.bootstrap=b:99999", "kafka.bootstrap: 'b:99999' should have ports from 1 to 65535"),
        (
            "kafka.heartbeat_interval_ms=9000",
            "kafka: heartbeat_interval_ms should be at most half of session_timeout_ms",
        ),
        ("kafka.delivery=perhaps", "kafka.delivery: 'perhaps' should be 'exactly_once' or 'at_least_once'"),
        ("events.max_bytes=999999", "events.max_bytes should be at least 16384 below kafka.max_message_bytes"),
    ],
)
def test_an_error_names_where_what_and_the_nearest_right_key(override: str, complaint: str) -> None:
    assert problems(None, override) == [f"--set: {complaint}"]


def test_set_needs_a_key_and_a_value() -> None:
    assert problems(None, "batch.max_frames") == [
        "--set batch.max_frames: should be key.path=value, as in --set batch.max_frames=8"
    ]


def test_an_error_names_the_source_of_the_value_that_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = written(tmp_path, "http: {port: 99999}\nlog: {level: loud}\nkafak: {group: a}")
    monkeypatch.setenv("MILLWATCH_LOG__LEVEL", "silent")
    monkeypatch.setenv("MILLWATCH_HTTPS__PORT", "1")
    monkeypatch.setenv("MILLWATCH_PORT", "not ours: it has no separator and is no key")
    lines = problems(config)
    assert lines[0] == f"{config}: http.port: 99999 should be less than or equal to 65535"
    assert lines[1].startswith("MILLWATCH_LOG__LEVEL: log.level: 'silent' should be 'debug'")
    assert lines[2] == f"{config}: kafak: no such key; did you mean kafka?"
    assert lines[3] == "MILLWATCH_HTTPS__PORT: https: no such key; did you mean http?"


@pytest.mark.parametrize("device", [0, 12])
def test_a_gpus_number_is_its_name_in_a_file_as_elsewhere(tmp_path: Path, device: int) -> None:
    config = written(tmp_path, f"engine: {{device: {device}}}")
    assert load_settings(config).engine.device == str(device)
    assert load_settings(config) == load_settings(config, [f"engine.device={device}"])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("kafka: [1", ": line 1: not valid YAML: "),
        ("log: {level: info}\nlog: {level: error}", ": line 2: not valid YAML: the key 'log' is there twice"),
        ("- kafka", ": should hold keys and values"),
        ("http: {port: true}", ": http.port: True should not be true or false"),
        ("engine: {device: true}", ": engine.device: True should not be true or false"),
        ("engine: {device: -1}", ": engine.device: -1 should be the number of a GPU, 0 or more, or a name"),
        ("engine: {device: 1.5}", ": engine.device: 1.5 should be a valid string"),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, text: str, line: str) -> None:
    config = written(tmp_path, text)
    (found,) = problems(config)
    assert found.startswith(f"{config}{line}")


def test_a_configuration_that_is_a_folder_or_no_text_is_named_once(tmp_path: Path) -> None:
    assert problems(tmp_path) == [f"{tmp_path}: cannot be read: Is a directory"]
    (tmp_path / "latin.yaml").write_bytes("kafka: {group: Blechstraße}".encode("latin-1"))
    assert problems(tmp_path / "latin.yaml") == [f"{tmp_path / 'latin.yaml'}: not a text in UTF-8"]


def test_secrets_never_show(tmp_path: Path) -> None:
    overrides = [
        "kafka.security.protocol=sasl_ssl",
        "kafka.security.username=line",
        "kafka.security.password=hunter2",
        "kafka.security.key_password=hunter2",
    ]
    settings = load_settings(None, overrides)
    for shown in (repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()):
        assert "hunter2" not in shown
    config = written(tmp_path, "kafka: {security: {password: [hunter2], pasword: hunter2}}")
    lines = problems(config)
    assert len(lines) == 2
    assert not any("hunter2" in line for line in lines)


def test_secrets_come_from_files(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2\n")
    security = load_settings(None, ["kafka.security.password_file=secret", "kafka.security.username=u"]).kafka.security
    password = security.login_password()
    assert password is not None
    assert password.get_secret_value() == "hunter2"
    missing = load_settings(None, ["kafka.security.key_password_file=gone"]).kafka.security
    with pytest.raises(UsageError, match=r"kafka\.security\.key_password_file: cannot read .*gone"):
        missing.private_key_password()


@pytest.mark.parametrize(
    "overrides",
    [
        ["kafka.security.protocol=sasl_plaintext"],
        ["kafka.security.protocol=sasl_ssl", "kafka.security.sasl_mechanism=OAUTHBEARER"],
        ["kafka.security.password=a", "kafka.security.password_file=b"],
        ["kafka.security.key_file=a"],
    ],
)
def test_security_is_complete_or_an_error(overrides: list[str]) -> None:
    (line,) = problems(None, *overrides)
    assert line.startswith("--set: kafka.security: ")


def test_settings_are_frozen() -> None:
    settings = load_settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.batch.max_frames = 3  # type: ignore[misc]


def section(**values: st.SearchStrategy[object]) -> st.SearchStrategy[dict[str, object]]:
    return st.fixed_dictionaries({}, optional=values)


# The word null takes a value back; in a file it would be quoted. Letters, numbers, signs: of other characters, such as
# the line break U+0085, PyYAML does not read what it writes.
SIGNS = st.characters(categories=("L", "N", "P", "S"))
TEXT = st.text(SIGNS, min_size=1, max_size=20).filter(lambda text: text != "null")
TREES = section(
    kafka=section(
        group=st.from_regex(r"[A-Za-z0-9._-]{1,20}", fullmatch=True), publish_delay_ms=st.integers(0, 60_000)
    ),
    batch=section(max_frames=st.integers(1, 64), max_wait_ms=st.floats(0, 10_000)),
    gate=section(threshold=st.none() | st.floats(0, 1)),
    classes=st.dictionaries(st.integers(1, 9), section(name=TEXT, min_area_px=st.integers(0, 10**6))),
    engine=section(rebuild=st.booleans(), slots=st.integers(0, 64)),
)


@given(TREES)
@hypothesis_settings(max_examples=40)
def test_a_file_says_the_same_as_its_values(tree: dict[str, dict[str, object]]) -> None:
    path = Path("round-trip.yaml")
    path.write_text(yaml.safe_dump(tree, allow_unicode=True), encoding="utf-8")
    settings = load_settings(path)
    again = Settings.model_validate(json.loads(settings.model_dump_json()))
    assert again == settings
    assert settings.batch.max_frames == tree.get("batch", {}).get("max_frames", 4)
    assert set(settings.classes) == set(tree.get("classes", {}))


@given(TREES)
@hypothesis_settings(max_examples=40)
def test_set_says_the_same_as_a_file(tree: dict[str, dict[str, object]]) -> None:
    path = Path("same.yaml")
    path.write_text(yaml.safe_dump(tree, allow_unicode=True), encoding="utf-8")
    overrides = []
    for section, values in tree.items():
        for key, value in values.items():
            leaves = value if isinstance(value, dict) else {"": value}
            for leaf, text in leaves.items():
                shown = "null" if text is None else str(text).lower() if isinstance(text, bool) else str(text)
                overrides.append(f"{section}.{key}{'.' if leaf else ''}{leaf}={shown}")
    by_set = load_settings(None, overrides)
    # A class without any value is a class in a file, and nothing that --set could name.
    by_file = load_settings(path)
    kept = {number: values for number, values in by_file.classes.items() if values != ClassSettings()}
    assert by_set == by_file.model_copy(update={"classes": kept})


def test_a_variable_that_is_nearly_a_key_is_a_slip_and_others_belong_to_other_programs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MILLWATCH_PORT", "tcp://10.0.0.1:9109")
    monkeypatch.setenv("MILLWATCH_KAFKA_HOME", "/opt/kafka")
    load_settings(Path(os.devnull))
    monkeypatch.setenv("MILLWATCH_CASCAD", "cascades/next")
    with pytest.raises(UsageError, match=r"MILLWATCH_CASCAD: cascad: no such key .* did you mean cascade"):
        load_settings(Path(os.devnull))
