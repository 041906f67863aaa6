/** Load pictures that will be shown soon. */
export function preload(_urls: string[]): void {}
