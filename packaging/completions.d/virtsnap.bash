# bash completion for virtsnap. What may be typed is asked of virtsnap itself, which ends each
# candidate, quoted, with a vertical tab; 79 asks for names of files, 78 for no space behind it.
_virtsnap() {
    local found code
    COMPREPLY=()
    found=$(_ARGCOMPLETE=bash COMP_LINE=$COMP_LINE COMP_POINT=$COMP_POINT \
        COMP_WORDBREAKS=$COMP_WORDBREAKS command virtsnap 2>/dev/null </dev/null)
    code=$?
    if ((code == 79)); then
        compopt -o default
    elif [[ -n $found ]]; then
        mapfile -t -d $'\v' COMPREPLY < <(printf %s "$found")
        if ((code == 78)); then
            compopt -o nospace
        fi
    fi
}
complete -F _virtsnap virtsnap
