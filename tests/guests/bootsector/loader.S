// Real-mode part of the disk guest: asks the BIOS what the body wants to know, reads the body, copies it to 1 MiB and enters it
// the way a PVH loader would: 32-bit protected mode, paging off, EBX = hvm_start_info.
// BODY_SECTORS comes from the build.
#include "layout.h"

        .code16
        .text
        .globl  loader
loader:
        movb    %dl, drive
        movb    %dh, extensions
        movw    $hello, %si
        call    print

        movl    $BIOS_REPORT_MAGIC, report
        movzbl  drive, %eax
        movl    %eax, report_drive
        movzbl  extensions, %eax
        movl    %eax, report_extensions
        int     $0x12
        movzwl  %ax, %eax
        movl    %eax, report_base_kib
        call    ask_geometry
        call    ask_edd
        call    ask_memory
        call    compare_reads
        call    enable_a20
        call    load_body

        cli
        lgdt    gdt_pointer
        movl    %cr0, %eax
        orl     $1, %eax
        movl    %eax, %cr0
        ljmp    $0x08, $protected

// INT 13h 08h.
ask_geometry:
        pushw   %es
        movb    $0x08, %ah
        movb    drive, %dl
        xorw    %di, %di
        int     $0x13
        popw    %es
        jc      1f
        movzbl  %dh, %eax
        incl    %eax
        movl    %eax, report_heads
        movl    %ecx, %eax
        andl    $0x3F, %eax
        movl    %eax, report_sectors
        movzbl  %ch, %eax
        shrb    $6, %cl
        movb    %cl, %ah
        incl    %eax
        movl    %eax, report_cylinders
1:      ret

// INT 13h 48h: number of sectors.
ask_edd:
        cmpb    $0, extensions
        je      1f
        movw    $SCRATCH_ADDRESS, %si
        movw    $30, (%si)
        movb    $0x48, %ah
        movb    drive, %dl
        int     $0x13
        jc      1f
        movl    SCRATCH_ADDRESS + 16, %eax
        movl    %eax, report_capacity
        movl    SCRATCH_ADDRESS + 20, %eax
        movl    %eax, report_capacity + 4
1:      ret

// INT 15h E820, entries of 24 bytes: the layout of PVH's memory map.
ask_memory:
        xorl    %ebx, %ebx
        movw    $MEMMAP_ADDRESS, %di
1:      movl    $0xE820, %eax
        movl    $0x534D4150, %edx
        movl    $24, %ecx
        movl    $1, 20(%di)
        int     $0x15
        jc      2f
        cmpl    $0x534D4150, %eax
        jne     2f
        incl    memmap_entries
        addw    $24, %di
        cmpl    $MEMMAP_MAX, memmap_entries
        jae     2f
        testl   %ebx, %ebx
        jnz     1b
2:      ret

// The same sector by 42h and by 02h.
compare_reads:
        movl    $CONFIG_SECTOR, packet_lba
        movw    $1, packet_count
        movw    $(SCRATCH_ADDRESS >> 4), packet_segment
        call    read_packet
        jc      1f
        movw    $0x0201, %ax
        movw    $(CONFIG_SECTOR + 1), %cx
        movb    $0, %dh
        movb    drive, %dl
        movw    $(SCRATCH_ADDRESS + 512), %bx
        int     $0x13
        jc      1f
        movw    $SCRATCH_ADDRESS, %si
        movw    $(SCRATCH_ADDRESS + 512), %di
        movw    $256, %cx
        repe cmpsw
        jne     1f
        movl    $1, report_reads_agree
1:      ret

enable_a20:
        movw    $0x2401, %ax
        int     $0x15
        jnc     1f
        inb     $0x92, %al
        orb     $2, %al
        andb    $0xFE, %al
        outb    %al, $0x92
1:      ret

// 64 sectors a request by LBA, or one a request by CHS.
load_body:
        movl    $BODY_SECTOR, packet_lba
        movw    $(BODY_LOAD_ADDRESS >> 4), packet_segment
        movw    $BODY_SECTORS, %bp
1:      testw   %bp, %bp
        jz      3f
        movw    $64, %ax
        cmpb    $0, extensions
        jne     2f
        movw    $1, %ax
2:      cmpw    %ax, %bp
        jae     2f
        movw    %bp, %ax
2:      movw    %ax, packet_count
        call    read_packet
        jc      failed
        movzwl  packet_count, %eax
        subw    %ax, %bp
        addl    %eax, packet_lba
        shlw    $5, %ax
        addw    %ax, packet_segment
        jmp     1b
3:      ret

// Reads what `packet` says: by 42h, or one sector by 02h. Carry set on failure.
read_packet:
        cmpb    $0, extensions
        je      1f
        movb    $0x42, %ah
        movb    drive, %dl
        movw    $packet, %si
        int     $0x13
        ret
1:      movl    packet_lba, %eax
        xorl    %edx, %edx
        movl    report_sectors, %ecx
        jecxz   2f
        divl    %ecx
        movb    %dl, %cl
        incb    %cl
        xorl    %edx, %edx
        pushw   %cx
        movl    report_heads, %ecx
        divl    %ecx
        popw    %cx
        movb    %dl, %dh
        movb    %al, %ch
        movb    drive, %dl
        pushw   %es
        movw    packet_segment, %ax
        movw    %ax, %es
        xorw    %bx, %bx
        movw    $0x0201, %ax
        int     $0x13
        popw    %es
        ret
2:      stc
        ret

failed:
        movw    $cannot_read, %si
        call    print
        movb    $EXIT_FAILURE_CODE, %al
        outb    %al, $DEBUG_EXIT_PORT
1:      hlt
        jmp     1b

print:
        lodsb
        testb   %al, %al
        jz      1f
        movb    $0x0E, %ah
        movw    $7, %bx
        int     $0x10
        jmp     print
1:      ret

        .code32
protected:
        movw    $0x10, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movl    $BODY_LOAD_ADDRESS, %esi
        movl    $BODY_ADDRESS, %edi
        movl    $(BODY_SECTORS * 512 / 4), %ecx
        cld
        rep movsl
        movl    memmap_entries, %eax
        movl    %eax, start_info_entries
        movl    $START_INFO_ADDRESS, %edi
        movl    $start_info, %esi
        movl    $14, %ecx
        rep movsl
        movl    $START_INFO_ADDRESS, %ebx
        movl    $BODY_ADDRESS, %eax
        jmp     *%eax

hello:          .asciz "CALF-GUEST: boot sector\r\n"
cannot_read:    .asciz "CALF-GUEST: error: INT 13h cannot read the guest's body\r\n"
drive:          .byte 0
extensions:     .byte 0
        .balign 8
packet:         .byte 16, 0
packet_count:   .word 0
                .word 0         // offset
packet_segment: .word 0
packet_lba:     .quad 0
memmap_entries: .long 0

gdt:            .quad 0
                .quad 0x00CF9B000000FFFF
                .quad 0x00CF93000000FFFF
gdt_pointer:    .word . - gdt - 1
                .long gdt

        .balign 8
start_info:     .long PVH_MAGIC, 1, 0, 1        // magic, version, flags, one module
                .quad module_list
                .quad CONFIG_ADDRESS            // command line
                .quad 0                         // RSDP: to be searched
                .quad MEMMAP_ADDRESS
start_info_entries: .long 0, 0
module_list:    .quad report, report_end - report, 0, 0

        .balign 8
report:         .long 0         // struct bios_report
report_drive:   .long 0
report_extensions: .long 0
report_base_kib: .long 0
report_cylinders: .long 0
report_heads:   .long 0
report_sectors: .long 0
report_reads_agree: .long 0
report_capacity: .quad 0
report_end:
        .org    LOADER_SECTORS * 512
