"""`modelyard completion`."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from modelyard.cli.options import new_app

app = new_app()

SCRIPTS: Final = {
    "bash": """_modelyard() {
  local found
  found=$(modelyard completion bash --words -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
  if [ "$found" = ":files" ]; then compopt -o default; COMPREPLY=(); return; fi
  local IFS=$'\\n'
  COMPREPLY=($found)
}
complete -F _modelyard modelyard""",
    "zsh": """#compdef modelyard
_modelyard() {
  local -a found
  found=("${(@f)$(modelyard completion zsh --words -- "${words[@]:1:$((CURRENT-1))}" 2>/dev/null)}")
  if [[ "${found[1]}" == ":files" ]]; then _files; return; fi
  [[ -n "${found[1]}" ]] && _describe 'modelyard' found
}
compdef _modelyard modelyard""",
    "fish": """function __modelyard_words
  set -l before (commandline -opc) (commandline -ct)
  set -l found (modelyard completion fish --words -- $before[2..-1] 2>/dev/null)
  if test "$found[1]" = ":files"
    __fish_complete_path (commandline -ct)
  else
    printf '%s\\n' $found
  end
end
complete -c modelyard -f -a '(__modelyard_words)'""",
}


@app.command(name="completion", context_settings={"ignore_unknown_options": True})
def completion(
    shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish", help="The shell.")],
    line: Annotated[
        list[str] | None, typer.Argument(metavar="[WORD]...", help="With --words: the words of the line so far.")
    ] = None,
    words: Annotated[bool, typer.Option("--words", help="Say what may come next; the script asks so.")] = False,
) -> None:
    """Print the script that completes commands, options and names in a shell. Names are those of the server that runs.

    \b
    Example: modelyard completion bash >> ~/.bashrc

    \b
    Example: modelyard completion fish > ~/.config/fish/completions/modelyard.fish
    """
    from modelyard.cli.asking import wrong

    if shell not in SCRIPTS:
        raise wrong("shell", shell, f"shell is {shell!r}; give bash, zsh or fish")
    if not words:
        print(SCRIPTS[shell])
        return
    from modelyard.cli.completing import names_of, suggestions
    from modelyard.cli.group import root_command

    found = suggestions(root_command(), line or [""], names_of)
    print("\n".join([":files"] if isinstance(found, str) else [_written(shell, word, said) for word, said in found]))


def _written(shell: str, word: str, said: str) -> str:
    if not said or shell == "bash":
        return word
    return f"{word}\t{said}" if shell == "fish" else f"{word.replace(':', chr(92) + ':')}:{said}"
