# fish completion for virtsnap. What may be typed is asked of virtsnap itself, which ends each
# candidate, and what it is, with a NUL; 79 asks for names of files. Behind a = fish leaves no space
# by itself.
function __virtsnap_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    env _ARGCOMPLETE=fish virtsnap $words[2..-1] "$current" 2>/dev/null </dev/null
    if test $status -eq 79
        __fish_complete_suffix .toml | string join0
    end
end
complete -c virtsnap -f -a '(__virtsnap_complete | string split0)'
