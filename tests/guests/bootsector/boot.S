// Boot sector: reads the configuration and the loader through INT 13h, by LBA (42h) or else by CHS (02h), and goes there.
#include "layout.h"

        .code16
        .text
        .globl  boot
boot:
        xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movw    $0x7C00, %sp
        ljmp    $0, $1f
1:      sti
        cld
        movb    %dl, drive

        movb    $0x41, %ah
        movw    $0x55AA, %bx
        int     $0x13
        jc      by_chs
        cmpw    $0xAA55, %bx
        jne     by_chs
        testb   $1, %cl
        jz      by_chs
        movb    $1, extensions
        movb    $0x42, %ah
        movb    drive, %dl
        movw    $packet, %si
        int     $0x13
        jnc     loaded
by_chs:
        movw    $(0x0200 + 1 + LOADER_SECTORS), %ax
        movw    $(CONFIG_SECTOR + 1), %cx  // cylinder 0; sectors count from 1
        movb    $0, %dh
        movb    drive, %dl
        movw    $CONFIG_ADDRESS, %bx
        int     $0x13
        jc      failed
loaded:
        // `exit` is answered here: what it measures is the way to the boot sector.
        cmpl    $TEXT_EXIT, CONFIG_ADDRESS
        je      1f
        cmpl    $TEXT_TEST_EXIT, CONFIG_ADDRESS + 4
        jne     2f
1:      movb    $EXIT_SUCCESS_CODE, %al
        outb    %al, $DEBUG_EXIT_PORT
2:      movb    drive, %dl
        movb    extensions, %dh
        ljmp    $0, $LOADER_ADDRESS

failed:
        movw    $message, %si
1:      lodsb
        testb   %al, %al
        jz      2f
        movb    $0x0E, %ah
        movw    $7, %bx
        int     $0x10
        jmp     1b
2:      movb    $EXIT_FAILURE_CODE, %al
        outb    %al, $DEBUG_EXIT_PORT
3:      hlt
        jmp     3b

message:    .asciz "CALF-GUEST: error: boot sector cannot read the disk\r\n"
drive:      .byte 0
extensions: .byte 0
        .balign 4
packet:     .byte 16, 0
            .word 1 + LOADER_SECTORS
            .word CONFIG_ADDRESS, 0
            .quad CONFIG_SECTOR

        .org    440
        .long   0x6C616363      // disk signature
        .org    510
        .word   0xAA55
