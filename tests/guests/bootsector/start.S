// First instructions of the body, and everything of it that runs at CPL 0.
//
//   start32      from a PVH loader or from loader.S: paging and long mode on, then straight to CPL 3: guest_main(start_info)
//   trampoline   the other CPUs, from SIPI: the same way, to cpu_main(index)
//   vectors      256 entries of 16 bytes: exceptions go back to CPL 3 (guest_exception), interrupts are counted, and a `hlt`
//                at CPL 3 is our system call
//
// Why all C code runs at CPL 3: on a host without hardware virtualisation (kvm_pvm) 64-bit user code runs natively while
// CPL 0 is emulated, where `syscall` and `int` at CPL 3 do not arrive. The TSS lets it use all ports (IOPL 3 would do, but such a
// host drops it); all memory is mapped for it.
// Only instructions that KVM's emulator knows are used here.
#include "layout.h"

        .section .note.xen, "a", @note
        .balign 4
        .long   4, 8, 18        // XEN_ELFNOTE_PHYS32_ENTRY
        .asciz  "Xen"
        .quad   start32

        .section .start, "ax"
        .code32
        .globl  start32
start32:
        cli
        cld
        // `exit` is answered here: what it measures is the way to the kernel's entry.
        movl    24(%ebx), %eax
        testl   %eax, %eax
        jz      2f
        cmpl    $TEXT_EXIT, (%eax)
        je      1f
        cmpl    $TEXT_TEST_EXIT, 4(%eax)
        jne     2f
1:      movb    $EXIT_SUCCESS_CODE, %al
        outb    %al, $DEBUG_EXIT_PORT
2:      lgdt    gdt_pointer
        movl    $tss, %eax
        movw    %ax, gdt + TSS_SELECTOR + 2
        shrl    $16, %eax
        movb    %al, gdt + TSS_SELECTOR + 4
        movb    %ah, gdt + TSS_SELECTOR + 7
        movl    $pml4, %eax
        movl    %eax, %cr3
        movl    $0x620, %eax    // OSXMMEXCPT, OSFXSR, PAE
        movl    %eax, %cr4
        movl    $0xC0000080, %ecx
        rdmsr
        orl     $0x100, %eax    // EFER.LME
        wrmsr
        movl    $0x80000033, %eax       // PG, NE, ET, MP, PE
        movl    %eax, %cr0
        ljmp    $KERNEL_CODE, $1f
        .code64
1:      movw    $KERNEL_DATA, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        lidt    idt_pointer
        movw    $TSS_SELECTOR, %ax
        ltr     %ax
        movl    $trap_stack_end, %esp
        pushq   $USER_DATA
        pushq   $user_stack_end - 8
        pushq   $0x3002         // IOPL 3, interrupts off
        pushq   $USER_CODE
        pushq   $guest_main
        movl    %ebx, %edi
        iretq

// Copied to TRAMPOLINE_ADDRESS; CS = TRAMPOLINE_ADDRESS >> 4.
        .globl  trampoline, trampoline_end
        .code16
trampoline:
        cli
        xorw    %ax, %ax
        movw    %ax, %ds
        lgdtl   TRAMPOLINE_ADDRESS + (2f - trampoline)
        movl    %cr0, %eax
        orl     $1, %eax
        movl    %eax, %cr0
        ljmpl   $KERNEL_CODE32, $cpu_start32
        .balign 4
2:      .word   gdt_end - gdt - 1
        .long   gdt
trampoline_end:

        .code32
cpu_start32:
        movw    $KERNEL_DATA, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movl    $pml4, %eax
        movl    %eax, %cr3
        movl    $0x620, %eax
        movl    %eax, %cr4
        movl    $0xC0000080, %ecx
        rdmsr
        orl     $0x100, %eax
        wrmsr
        movl    $0x80000033, %eax
        movl    %eax, %cr0
        ljmp    $KERNEL_CODE, $1f
        .code64
1:      lidt    idt_pointer
        movl    $1, %edi
        lock xaddl %edi, next_cpu       // our index
        movl    %edi, %eax
        shll    $4, %eax
        addl    $TSS_SELECTOR, %eax
        ltr     %ax
        movq    cpu_trap_stacks(,%rdi,8), %rsp
        movq    cpu_user_stacks(,%rdi,8), %rax
        pushq   $USER_DATA
        pushq   %rax
        pushq   $0x3002
        pushq   $USER_CODE
        pushq   $cpu_main
        iretq

// Vector n at vectors + VECTOR_SIZE n. Where KVM emulates CPL 0 each instruction on the way of an
// interrupt or a wait counts: bench measures the host, not these.
        .globl  vectors
        .balign VECTOR_SIZE
vectors:
number = 0
        .rept   256
        .balign VECTOR_SIZE
        .if     number >= 32
        lock incl interrupt_counts + 4 * number
        addr32 movl $0, 0xFEE000B0      // EOI
        iretq
        .elseif number == 13
        jmp     general_protection
        .else
        .if     (number != 8) && (number != 10) && (number != 11) && (number != 12) && (number != 14) && (number != 17) && (number != 21) && (number != 29) && (number != 30)
        pushq   $0
        .endif
        pushq   $number
        jmp     exception
        .endif
number = number + 1
        .endr

// `hlt` at CPL 3 with the number in RDI; R11 is lost. (%rsp): error code, RIP, CS, RFLAGS, RSP, SS
general_protection:
        movq    8(%rsp), %r11
        cmpb    $0xF4, (%r11)
        jne     1f
        incq    8(%rsp)
        cmpl    $TRAP_WAIT, %edi
        jne     trap
        addq    $8, %rsp
        sti
        hlt
        iretq
1:      pushq   $13

// (%rsp): vector, error code, RIP, CS, RFLAGS, RSP, SS
exception:
        // Not our doing to print here: CPL 3 does.
        movq    (%rsp), %rdi
        movq    8(%rsp), %rsi
        movq    16(%rsp), %rdx
        movq    %cr2, %rcx
        movq    40(%rsp), %r8
        movq    $guest_exception, 16(%rsp)
        movq    $USER_CODE, 24(%rsp)
        movq    $0x3002, 32(%rsp)
        movq    $exception_stack_end - 8, 40(%rsp)
        movq    $USER_DATA, 48(%rsp)
        addq    $16, %rsp
        iretq

trap:
        cmpl    $TRAP_WRMSR, %edi
        je      3f
        cmpl    $TRAP_RDMSR, %edi
        je      4f
        cmpl    $TRAP_TRIPLE_FAULT, %edi
        je      5f
1:      cli
        hlt
        jmp     1b
3:      wrmsr
        jmp     9f
4:      rdmsr
        jmp     9f
5:      lidt    no_idt
        movq    $1, %rax
        shlq    $45, %rax
        movq    (%rax), %rax    // not mapped
9:      addq    $8, %rsp
        iretq

        .data
        .balign 16
        .globl  gdt
gdt:
        .quad   0
        .quad   0x00AF9B000000FFFF      // KERNEL_CODE
        .quad   0x00CF93000000FFFF      // KERNEL_DATA
        .quad   0x00CF9B000000FFFF      // KERNEL_CODE32
        .quad   0x00CFF3000000FFFF      // USER_DATA
        .quad   0x00AFFB000000FFFF      // USER_CODE
        .quad   0x0000890000000000 + TSS_SIZE - 1, 0    // TSS of CPU 0; base filled in at start
        .fill   (MAX_CPUS - 1) * 2, 8, 0
gdt_end:
gdt_pointer:
        .word   gdt_end - gdt - 1
        .quad   gdt
idt_pointer:
        .word   256 * 16 - 1
        .quad   idt
no_idt: .word   0
        .quad   0
        .balign 16
        .globl  tss
tss:    .long   0
        .quad   trap_stack_end
        .org    tss + 102
        .word   TSS_PORTS
        .org    tss + TSS_SIZE - 1
        .byte   0xFF
        .globl  next_cpu, cpu_trap_stacks, cpu_user_stacks, interrupt_counts
next_cpu:       .long 1
        .balign 8
cpu_trap_stacks: .fill MAX_CPUS, 8, 0
cpu_user_stacks: .fill MAX_CPUS, 8, 0
interrupt_counts: .fill 256, 4, 0

// Page tables, ready made: the first 4 GiB, one to one, for CPL 3 too; the fourth GiB (devices) uncached.
        .balign 4096
        .globl  pml4, pdpt
pml4:   .quad   pdpt + 7
        .fill   511, 8, 0
pdpt:   .quad   page_directories + 0x0007, page_directories + 0x1007, page_directories + 0x2007, page_directories + 0x3007
        .fill   508, 8, 0
page_directories:
page = 0
        .rept   2048
        .if     page < 0xC0000000
        .quad   page + 0x87
        .else
        .quad   page + 0x9F
        .endif
page = page + 0x200000
        .endr

        .section .noinit, "aw", @nobits
        .balign 16
        .globl  idt
idt:    .skip   256 * 16
        .skip   1024
trap_stack_end:
        .skip   16384
user_stack_end:
        .skip   8192
exception_stack_end:
