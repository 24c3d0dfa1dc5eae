"""Configuration: composed by Hydra from hydra_conf/, overridden by ``--model_args``.

The only module that imports Hydra. The folder is the registry: a verifier, meta-verifier, cost
model or tier is the ``_target_`` of a YAML file there, and ``_target_`` is taken from nowhere
else.
"""

from __future__ import annotations

import difflib
import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, cast

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import JobRuntime
from hydra.version import VersionBase
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from automix_eval.config import described
from automix_eval.config.described import options as options
from automix_eval.config.overrides import GROUPS as GROUPS
from automix_eval.config.overrides import TIERS as TIERS
from automix_eval.config.overrides import ConfigError as ConfigError
from automix_eval.config.overrides import flatten, read_file, refuse_shape
from automix_eval.paths import hydra_conf_dir
from automix_eval.safety.numbers import is_number, is_whole
from automix_eval.safety.redaction import blank, know
from automix_eval.safety.text import did_you_mean


def hydra_options(group: str) -> list[str]:
    """Options of a group of Hydra's own, such as ``hydra/launcher``: ours and the plugins'."""
    with _apart(str(hydra_conf_dir().resolve())):
        found: list[str] = GlobalHydra.instance().config_loader().get_group_options(group)
    return found


def build(arguments: Mapping[str, Any]) -> DictConfig:
    """Compose the configuration.

    Args:
        arguments: As parsed from ``--model_args``: ``group=option``, dotted keys, nested mappings;
            ``config`` names a YAML file of the same shape, which the other arguments override.

    Raises:
        ConfigError: Unknown keys or options (with the nearest names), or unusable values.
    """
    given = {key.strip(): value for key, value in arguments.items()}  # "slm=hf, llm=hf" too
    pairs = dict(flatten(read_file(given.pop("config")))) if given.get("config") else {}
    given.pop("config", None)
    pairs |= dict(flatten(given))
    chain = _chain(pairs)
    choices = {k: _option(k, v) for k, v in pairs.items() if k in GROUPS}
    values = {k: v for k, v in pairs.items() if k not in GROUPS}
    try:
        config = _compose("config", [f"{g}={o}" for g, o in choices.items()])
        if chain:
            with open_dict(config):
                for group in TIERS:
                    del config[group]
            config.tiers = [_tier(f"tiers.{i}", entry) for i, entry in enumerate(chain)]
        for key, value in values.items():
            _set(config, key, value)
        names = tier_names(config)
        if "members" in config.verifier:
            config.verifier.members = _members(config.verifier.members, names)
        _second(config.verifier, names)
        if (own := config.verifier.get("with_calibrator")) and "calibrator" not in choices:
            choices["calibrator"] = _option("calibrator", own)
            config.calibrator = _compose(f"calibrator/{choices['calibrator']}", []).calibrator
        OmegaConf.resolve(config)
    except OmegaConfBaseException as err:
        raise ConfigError(f"the configuration cannot be composed: {err}") from err
    know(OmegaConf.to_container(config))
    for group in GROUPS:
        if group in config:
            _name(config, group, choices)
    for key in sorted(_missing(config)):
        raise ConfigError(f"{key} is not set: add {key}=VALUE")
    _check_label(config.model)
    if config.record not in ("routed", "full"):
        raise ConfigError(f"record={config.record!r} is unknown: routed or full")
    if config.repeats not in ("unit", "each"):
        raise ConfigError(f"repeats={config.repeats!r} is unknown: unit or each")
    for key in ("metric", "filter"):
        if config[key] is not None and not isinstance(config[key], str):
            raise ConfigError(f"{key}={config[key]!r} must be a name")
    _integers(config)
    _check_share(config.fail_on_error)
    _check_part(config.calibration.split_documents)
    return config


@lru_cache(maxsize=1)
def default_choices() -> Mapping[str, str]:
    """The option of each group that hydra_conf/config.yaml takes."""
    entries = OmegaConf.load(hydra_conf_dir() / "config.yaml").defaults
    return {
        str(group): str(option)
        for entry in entries
        if isinstance(entry, DictConfig)
        for group, option in entry.items()
    }


def tier_names(config: DictConfig) -> list[str]:
    """Names of the tiers, cheapest first: slm and llm, or those of the list ``tiers``."""
    return [str(t.tier) for t in config.tiers] if config.tiers else list(TIERS)


def name_of(config: DictConfig, group: str) -> str:
    """The option chosen in a group."""
    return str(OmegaConf.select(config, f"chosen.{group}"))


def shown(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain data for the record, secrets blanked."""
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    cleaned = blank(plain)
    assert isinstance(cleaned, dict)
    chosen = cleaned.pop("chosen")
    for group, option in chosen.items():
        cleaned[group] = {"name": option, **cleaned[group]}
    return cleaned


def resolved(config: DictConfig) -> dict[str, Any]:
    """A configuration as plain data, its references resolved."""
    return cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))


def raw(config: DictConfig) -> dict[str, Any]:
    """A configuration as plain data, references and missing values as they stand in the files."""
    return cast(dict[str, Any], OmegaConf.to_container(config, resolve=False))


def compose_application(name: str, choices: Mapping[str, str]) -> DictConfig:
    """The defaults of a command's file in hydra_conf/, with these options of its groups.

    Raises:
        ConfigError: An option does not exist; names the nearest.
    """
    return _compose(name, [f"{g}={_option(g, o)}" for g, o in choices.items()])


def compose_run(choices: Mapping[str, str]) -> DictConfig:
    """The defaults of hydra_conf/config.yaml, with these options of its groups, not resolved.

    Raises:
        ConfigError: An option does not exist; names the nearest.
    """
    return _compose("config", [f"{g}={_option(g, o)}" for g, o in choices.items()])


def unknown_key(
    config: DictConfig, key: str, groups: Iterable[str], command: str = "run"
) -> ConfigError:
    """The error for a key that a command's configuration lacks, with the nearest that it has."""
    known = _keys(config)
    group, _, name = key.partition(".")
    inside = [k for k in known if k.startswith(group + ".")]
    nearest = difflib.get_close_matches(key, inside, 1, cutoff=0.9)
    if name and group in groups and not nearest and (held := _held_elsewhere(group, name)):
        return ConfigError(f"{key} is no key of the {group} that is chosen: {held}")
    listed = f" Keys of {group}: {', '.join(inside)}." if inside else ""
    if name and group in known and not inside:
        return ConfigError(
            f"{key}: {group} is one key, and where it takes a mapping it is given whole: "
            f"{group}={{{name}:...}}"
        )
    return ConfigError(
        f"{key} is no key of the configuration{did_you_mean(key, [*known, *groups])}{listed} "
        f"automix-eval {command} --help lists every key"
    )


def _held_elsewhere(group: str, name: str) -> str:
    """Which options of a group have the key, or one of nearly its name; empty where none has."""
    near = difflib.get_close_matches(name, described.names_in(group), 1, cutoff=0.8)
    if not near:
        return ""
    holders = " or ".join(f"{group}={option}" for option in described.holders(group, near[0]))
    return f"{group}.{near[0]} is one of {holders}"


def _compose(name: str, overrides: list[str]) -> DictConfig:
    """Compose, once for all tasks of a report that were run with the same settings."""
    made = pickle.loads(_composed(str(hydra_conf_dir().resolve()), name, tuple(overrides)))
    return cast(DictConfig, made)


@lru_cache(maxsize=256)  # each takes a sixth of a second to make; a deep copy takes 7 ms, this 1
def _composed(folder: str, name: str, overrides: tuple[str, ...]) -> bytes:
    with _apart(folder):
        return pickle.dumps(compose(name, list(overrides)))


@contextmanager
def _apart(folder: str) -> Iterator[None]:
    """Hydra on a folder, leaving alone a Hydra application that is running around us."""
    job, base = JobRuntime.instance(), VersionBase.instance()
    outer, name, version = GlobalHydra.instance().hydra, job.get("name"), base.version_base
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(folder, version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = outer
        job.set("name", name)
        base.version_base = version


# --------------------------------------------------------------------------- a chain of tiers


def _chain(pairs: dict[str, Any]) -> list[dict[str, Any]]:
    """The entries of ``tiers``, taken out of the other arguments; empty where it is not given."""
    given = pairs.pop("tiers", None)
    if given is None:
        return []
    both = sorted(k for k in pairs if k.partition(".")[0] in TIERS)
    if both:
        raise ConfigError(
            f"tiers is given, and {', '.join(both)} as well: slm and llm are the two-tier "
            "shorthand of tiers, so say one or the other"
        )
    entries = given.split("+") if isinstance(given, str) else given
    if not isinstance(entries, list) or len(entries) < 2:
        raise ConfigError(
            f"tiers={given!r} must list at least two tiers, cheapest first: smollm2+gemma3, or "
            "[smollm2, {option: hf, pretrained: ...}] in JSON or YAML"
        )
    chain = [dict(e) if isinstance(e, Mapping) else {"option": e} for e in entries]
    for key in sorted(k for k in pairs if k.startswith("tiers.")):
        _, number, rest = [*key.split(".", 2), ""][:3]
        if not number.isdigit() or int(number) >= len(chain) or not rest:
            raise ConfigError(f"{key}: tiers are numbered 0 to {len(chain) - 1} (tiers.0.KEY=...)")
        chain[int(number)][rest] = pairs.pop(key)
    for index, entry in enumerate(chain):
        _check_entry(f"tiers.{index}", entry)
        entry.setdefault("name", f"tier{index}")
    names = [str(e["name"]) for e in chain]
    if len(set(names)) < len(names):
        raise ConfigError(f"the tiers' names {', '.join(names)} must differ")
    return chain


def _check_entry(place: str, entry: Mapping[str, Any]) -> None:
    if "option" not in entry:
        raise ConfigError(
            f"{place} names no option: one of {', '.join(options('tier'))}, as in "
            "{option: hf, pretrained: ...}"
        )
    for key in entry:
        if any(part.startswith("_") for part in str(key).split(".")):
            raise ConfigError(
                f"{place}.{key} may not be set: what code runs is not configured here"
            )


def _members(entries: Any, tiers: Sequence[str]) -> DictConfig:
    """The verifiers of an ensemble by name: their files, with the entries' own values."""
    members: dict[str, Any] = {}
    for entry in entries:
        values = dict(entry) if isinstance(entry, Mapping) else {"option": entry}
        option = _option("verifier", values.pop("option", None))
        node = cast(DictConfig, _compose(f"verifier/{option}", []).verifier)
        if "members" in node:
            raise ConfigError("verifier.members: an ensemble cannot hold an ensemble")
        with open_dict(node):  # the ensemble has one calibrator for all
            node.pop("with_calibrator", None)
        given = values.pop("name", None)
        for key, value in values.items():
            if key not in node or str(key).startswith("_"):
                raise ConfigError(
                    f"verifier.members: {key} is no value of {option}; it has "
                    + ", ".join(str(k) for k in node if not str(k).startswith("_"))
                )
            node[key] = value
        _second(node, tiers)
        name = str(given or option)
        if name in members and given is None:  # the settings tell it from the other
            name = "_".join([option, *_words(list(values.values()))])
        if name in members:
            raise ConfigError(
                f"verifier.members has {name} twice with the same settings: leave one out, or give "
                "one a name of its own"
            )
        members[name] = node
    return OmegaConf.create(members)


def _words(value: Any) -> list[str]:
    """The values of a setting, those within it one by one."""
    if isinstance(value, (Mapping, list)):
        inner = value.values() if isinstance(value, Mapping) else value
        return [word for one in inner for word in _words(one)]
    return [str(value)]


def _second(node: DictConfig, tiers: Sequence[str]) -> None:
    """A verifier's second model: a tier's number, or a file of hydra_conf/tier with own values."""
    given = node.get("second")
    if given is None:
        return
    place = "verifier.second"
    entry = dict(given) if isinstance(given, Mapping) else {"option": given}
    _check_entry(place, entry)
    if entry["option"] in tiers:
        node.second = list(tiers).index(str(entry["option"]))
        if node.second < len(tiers) - 2 and len(entry) == 1:
            return
        raise ConfigError(
            f"{place}={entry['option']} is a tier of this run after which none is verified: a "
            "model agrees with itself, and what a later tier answers is known once it is paid. "
            "Name another, as gemma3 or {option: hf, pretrained: NAME}"
        )
    node.second = _tier(place, entry | {"name": place})
    with open_dict(node.second):
        option = node.second.pop("option")
    for key in sorted(k.rpartition(".")[2] for k in _missing(node.second)):
        raise ConfigError(f"{place}={option} lacks {key}: {place}={{option: {option}, {key}: ...}}")


def _tier(place: str, entry: Mapping[str, Any]) -> DictConfig:
    """One tier of a chain: its file of hydra_conf/tier, with the entry's own values."""
    option = _option("tier", entry["option"])
    node = cast(DictConfig, _compose(f"tier/{option}", []).tier)
    OmegaConf.set_struct(node, False)
    for key, value in entry.items():
        if key not in ("option", "name"):
            _refuse_pretrained(node, place, str(key), "option: hf")
            OmegaConf.update(node, str(key), value, force_add=True)
    return cast(DictConfig, OmegaConf.merge(node, {"tier": str(entry["name"]), "option": option}))


def _refuse_pretrained(node: DictConfig, place: str, key: str, remedy: str) -> None:
    if key == "pretrained" and node.get("embedded"):
        raise ConfigError(
            f"{place} is the embedded model {node.embedded}: to use another, say {remedy}"
        )


# --------------------------------------------------------------------------- overrides


def _option(group: str, value: Any) -> str:
    name = str(value).replace("-", "_")
    known = options(group)
    if name not in known:
        raise ConfigError(
            f"{group}={value} is unknown{did_you_mean(name, known)} "
            f"Options of {group}: {', '.join(known)}"
        )
    return name


def _set(config: DictConfig, key: str, value: Any) -> None:
    group, _, rest = key.partition(".")
    parent = OmegaConf.select(config, key.rpartition(".")[0]) if rest else config
    if group in TIERS and rest and "." not in rest:
        _refuse_pretrained(config[group], group, rest, f"{group}=hf,{key}={value}")
        # arguments of the harness's class are checked by the backend, against its signature
        OmegaConf.update(config, key, value, force_add=True)
        return
    name = key.rpartition(".")[2]
    if not isinstance(parent, DictConfig) or name not in parent:
        raise unknown_key(config, key, (*GROUPS, "tiers"))
    kind = described.kind(key, ("config",), GROUPS) or ""
    if isinstance(value, str):
        value = described.as_list(value, kind) if kind.startswith("list") else value
    refuse_shape(config, key, value, kind.startswith("list"))
    OmegaConf.update(config, key, value)


def _keys(config: DictConfig, prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name in map(str, config):
        if name.startswith("_"):
            continue
        key = f"{prefix}{name}"
        keys.append(key)
        if not OmegaConf.is_missing(config, name) and isinstance(config[name], DictConfig):
            keys += _keys(config[name], key + ".")
    return keys


def _missing(config: DictConfig) -> set[str]:
    return set(OmegaConf.missing_keys(config))


def _name(config: DictConfig, group: str, choices: Mapping[str, str]) -> None:
    chosen = choices.get(group) or default_choices()[group]
    OmegaConf.update(config, f"chosen.{group}", chosen, force_add=True)


def _check_label(label: Any) -> None:
    """Refuse a label that names no folder of its own: the output's folder is called by it."""
    text = "label" if label is None else str(label)
    if len(text) > 200 or not text.strip(". ") or not text.isprintable():
        raise ConfigError(
            f"model={text[:40]!r} must be a printable name of at most 200 characters, and more "
            "than dots: the output folder is called by it"
        )


def _check_share(share: Any) -> None:
    if not is_number(share, 0.0, 1.0):
        raise ConfigError(
            f"fail_on_error={share!r} must be the share of questions that may fail, from 0 (stop "
            "at the first) to 1"
        )


def _check_part(share: Any) -> None:
    if share is not None and not (is_number(share) and 0 < share < 1):
        raise ConfigError(
            f"calibration.split_documents={share!r} must be null, or lie between 0 and 1: the "
            "share of the documents to fit on"
        )


def _integers(config: DictConfig) -> None:
    for key, least in (
        ("seed", 0),
        ("block_size", 1),
        ("calibration.num_docs", 1),
        ("calibration.min_docs", 2),
        ("calibration.seed", 0),
    ):
        value = OmegaConf.select(config, key)
        if not is_whole(value, least):
            raise ConfigError(f"{key}={value!r} must be an integer of at least {least}")
    for key in ("progress", "skip_unsupported", "meta_verifier.transfer"):
        if not isinstance(OmegaConf.select(config, key), bool):
            raise ConfigError(f"{key}={OmegaConf.select(config, key)!r} must be true or false")
