"""The configuration's commands: menuconfig, defconfig, savedefconfig, oldconfig and the others that `make` has.

    python scripts/kconfig.py defconfig gpt2-shakespeare --tracker wandb,trackio
    python scripts/kconfig.py menuconfig

What is written is a `.config` (or the file that KCONFIG_CONFIG names); the one before it is kept as `.config.old`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from trainers.configuration import (
    ROOT,
    ConfigError,
    Configuration,
    load,
    read_tree,
    shown,
    tracker_words,
)

DEFCONFIGS = ROOT / "defconfigs"


class Arguments(argparse.ArgumentParser):
    """Says in one sentence what is wrong, rather than behind a page of usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; make kconfig-help says what there is\n")


def config_path() -> Path:
    """The file that `make train` reads: KCONFIG_CONFIG, else `.config` here."""
    return Path(os.environ.get("KCONFIG_CONFIG") or ".config")


def write(configuration: Configuration, tracker: str | None = None) -> None:
    """Write the configuration out, with what the command line says of trackers in it."""
    path = config_path()
    if tracker:
        words = tracker_words(tracker, "TRACKER= on the command line")
        # The text, not the switches: it may hold modes, and "none" has to win over switches that a defconfig turned on.
        configuration.tree.syms["TRACKER"].set_value(",".join(words) or "none")
    print(configuration.tree.write_config(str(path)))


def remark(configuration: Configuration) -> Configuration:
    for sentence in configuration.remarks:
        print(f"note: {sentence}", file=sys.stderr)
    return configuration


def defconfig_path(name: str) -> Path:
    """The file of a defconfig: its name, with or without `_defconfig`, or a path.

    Raises:
        ConfigError: there is none.
    """
    for path in (DEFCONFIGS / name, DEFCONFIGS / name.removesuffix("_defconfig"), Path(name)):
        if path.is_file():
            return path
    import difflib

    close = difflib.get_close_matches(name, defconfig_names(), n=2)
    meant = f"did you mean {' or '.join(close)}?" if close else "make list-defconfigs lists them"
    raise ConfigError(f"there is no defconfig {name!r}: {meant}")


def defconfig_names() -> list[str]:
    return sorted(path.name for path in DEFCONFIGS.iterdir() if path.is_file())


def purpose(path: Path) -> str:
    """What a defconfig is for: its first line, a comment."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


# -- commands -----------------------------------------------------------------------------------------------------


def defconfig(args: argparse.Namespace) -> None:
    if not args.name:
        raise ConfigError("say which: make defconfig DEFCONFIG=NAME (make list-defconfigs lists them)")
    path = defconfig_path(args.name)
    configuration = remark(load(path))
    print(f"Configuration of {shown(path)}")
    write(configuration, args.tracker)


def savedefconfig(args: argparse.Namespace) -> None:
    configuration = remark(load(config_path()))
    path = Path(args.output)
    heading = purpose(path) if path.is_file() else ""
    configuration.tree.write_min_config(
        str(path), f"# {heading}\n" if heading else "# What differs from the defaults\n"
    )
    print(f"Minimal configuration written to {shown(path)}")


def list_defconfigs(args: argparse.Namespace) -> None:
    names = defconfig_names()
    width = max(map(len, names), default=0)
    for name in names:
        print(f"{name:<{width}}  {purpose(DEFCONFIGS / name)}")


def menuconfig(args: argparse.Namespace) -> None:
    path = config_path()
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ConfigError("make menuconfig needs a terminal: edit the file, or make defconfig-NAME")
    if path.exists() or args.tracker:
        # What the menu reads is written by ourselves: comments behind values, for one, are beyond its own reader.
        write(remark(load(path)) if path.exists() else empty(), args.tracker)
    import menuconfig as menu

    before = {name: os.environ.get(name) for name in ("KCONFIG_CONFIG", "MENUCONFIG_STYLE")}
    os.environ["KCONFIG_CONFIG"] = str(path)
    try:
        menu.menuconfig(read_tree())
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
    if path.exists():
        remark(load(path)).flags()  # a decimal number or a tracker's name is not checked by the menu


def oldconfig(args: argparse.Namespace) -> None:
    """Ask about what the file does not say yet; without a terminal those keep their defaults."""
    configuration = remark(load(config_path()))
    if sys.stdin.isatty():
        import oldconfig as asking

        tree = configuration.tree
        while True:
            asking.conf_changed = False
            for node in tree.node_iter():
                asking.oldconfig(node)
            if not asking.conf_changed:
                break
    write(configuration, args.tracker)


def empty() -> Configuration:
    return Configuration(read_tree(), None, {}, [])


def allyesconfig(args: argparse.Namespace) -> None:
    configuration = empty()
    for symbol in configuration.tree.unique_defined_syms:
        if not symbol.choice:  # one of a choice at most: it keeps its default
            symbol.set_value(2)
    write(configuration, args.tracker)


def allnoconfig(args: argparse.Namespace) -> None:
    configuration = empty()
    for symbol in configuration.tree.unique_defined_syms:
        if not symbol.choice:
            symbol.set_value(2 if symbol.is_allnoconfig_y else 0)
    write(configuration, args.tracker)


def clean_config(args: argparse.Namespace) -> None:
    path = config_path()
    for one in (path, path.with_name(path.name + ".old")):
        if one.exists():
            one.unlink()
            print(f"removed {shown(one)}")


def trackio(args: argparse.Namespace) -> None:
    """Show what Trackio was sent, on the configured port."""
    import importlib.util

    configuration = remark(load(config_path())) if config_path().exists() else empty()
    if importlib.util.find_spec("trackio") is None:
        raise ConfigError("Trackio is not installed: pip install 'lossbook[trackio]'")
    # `trackio show` has no option for it; its server reads the variable.
    os.environ.update(configuration.environment())
    project = configuration["TRACKER_PROJECT"]
    command = [sys.executable, "-m", "trackio.cli", "show", *(["--project", project] if project else [])]
    os.execv(command[0], command)


def show_help(args: argparse.Namespace) -> None:
    print("""\
  make menuconfig             choose in a menu; the result is .config
  make defconfig-NAME         begin with one that is there (also: make defconfig DEFCONFIG=NAME)
  make list-defconfigs        what there is
  make savedefconfig          what differs from the defaults, into ./defconfig (or OUTPUT=FILE)
  make oldconfig              asks about what .config does not say yet
  make allyesconfig           every switch on: all optimizers and prunings in the matrix, all trackers
  make allnoconfig            every switch off
  make clean-config           remove .config and .config.old

  make train                  train what .config says; ARGS="--steps 100" wins over it
  make matrix                 every combination that the menu "Matrix" has checked; JOBS=2 at a time
  make continue               go on after an interruption
  make trackio                Trackio's pages, on TRACKIO_PORT

  TRACKER=wandb|trackio|both|none|wandb:offline,tensorboard wins over the file, with each of these.
  KCONFIG_CONFIG=FILE reads and writes that file in place of .config.
""")
    tree = read_tree()
    print("Symbols (CONFIG_NAME in a file):")
    for symbol in tree.unique_defined_syms:
        prompts = [node.prompt[0] for node in symbol.nodes if node.prompt]
        if prompts:
            print(f"  {symbol.name:<30} {prompts[0]}")


COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "defconfig": defconfig, "savedefconfig": savedefconfig, "list-defconfigs": list_defconfigs,
    "menuconfig": menuconfig, "oldconfig": oldconfig, "allyesconfig": allyesconfig, "allnoconfig": allnoconfig,
    "clean-config": clean_config, "trackio": trackio, "help": show_help,
}  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    parser = Arguments(prog="kconfig", description="Make and change .config.")
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("name", nargs="?", help="of a defconfig")
    parser.add_argument("--tracker", help="trackers that win over the file's")
    parser.add_argument("--output", default="defconfig", help="where savedefconfig writes")
    args = parser.parse_args(argv)
    try:
        COMMANDS[args.command](args)
    except ConfigError as error:
        print(f"kconfig: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"kconfig: {error.filename or 'the configuration'}: {error.strerror or error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, EOFError):
        print("stopped: .config is as it was", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
