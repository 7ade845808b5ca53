# bash completion for virtsnap. What may be typed is asked of virtsnap itself, which ends each
# candidate, quoted, with a vertical tab; 79 asks for names of files.
_virtsnap() {
    local found
    COMPREPLY=()
    found=$(_ARGCOMPLETE=bash COMP_LINE=$COMP_LINE COMP_POINT=$COMP_POINT \
        COMP_WORDBREAKS=$COMP_WORDBREAKS command virtsnap 2>/dev/null </dev/null)
    if (($? == 79)); then
        compopt -o default
    elif [[ -n $found ]]; then
        mapfile -t -d $'\v' COMPREPLY < <(printf %s "$found")
    fi
}
complete -F _virtsnap virtsnap
