# bash completion for calf and calf-img

_calf() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
  case $prev in
    -boot | --boot) COMPREPLY=($(compgen -W 'c d order=' -- "$cur")) ;;
    -serial | --serial | -debugcon) COMPREPLY=($(compgen -W 'stdio mon:stdio null none pty file: unix: chardev:' -- "$cur")) ;;
    -device | --device) COMPREPLY=($(compgen -W 'virtio-blk-pci virtio-rng-pci isa-debug-exit pvpanic' -- "$cur")) ;;
    -drive | --drive) COMPREPLY=($(compgen -W 'file=' -- "$cur")) ;;
    -cpu) COMPREPLY=($(compgen -W 'host' -- "$cur")) ;;
    -rtc) COMPREPLY=($(compgen -W 'base=utc base=localtime' -- "$cur")) ;;
    -sandbox) COMPREPLY=($(compgen -W 'on off' -- "$cur")) ;;
    -m | -smp | -append | -name | -uuid | -smbios | --timeout | --scratch-limit) COMPREPLY=() ;;
    *)
      if [[ $cur == -* ]]; then
        # The program's own help is the one list of options.
        COMPREPLY=($(compgen -W "$(calf --help 2>/dev/null | sed -n 's/^  \(-[a-z-]*\).*/\1/p')" -- "$cur"))
      else
        COMPREPLY=($(compgen -f -- "$cur"))
      fi
      ;;
  esac
}
complete -o filenames -F _calf calf

# The long options of a subcommand: its line in the program's own help, which is the one list.
_calf_img_options() {
  calf-img --help 2>/dev/null | sed -n "s/^  $1 //p" | grep -o -- '--[a-z-]*=\?' | sort -u
}

_calf_img() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W 'amend audit create info check map compare convert dd measure refs resize rebase serve commit snapshot bench bitmap --help --version' -- "$cur"))
    return
  fi
  case $prev in
    -f | -F | -O) COMPREPLY=($(compgen -W 'luks qcow2 raw vmdk' -- "$cur")) ;;
    -t | -T) COMPREPLY=($(compgen -W 'writeback none writethrough directsync unsafe' -- "$cur")) ;;
    --output) COMPREPLY=($(compgen -W 'human json' -- "$cur")) ;;
    -r) COMPREPLY=($(compgen -W 'leaks all' -- "$cur")) ;;
    *)
      if [[ $cur == --* ]]; then
        COMPREPLY=($(compgen -W "$(_calf_img_options "${COMP_WORDS[1]}")" -- "$cur"))
      else
        COMPREPLY=($(compgen -f -- "$cur"))
      fi
      ;;
  esac
}
complete -o filenames -F _calf_img calf-img
